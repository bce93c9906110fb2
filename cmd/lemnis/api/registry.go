package api

import (
	"context"
	"io"
	"net/http"
)

// Registry is the files of the binary repository as a tar; the caller closes it.
func (c *Client) Registry(ctx context.Context) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/api/v1/registry.tar", http.NoBody)
	if err != nil {
		return nil, err
	}
	c.identify(request)
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		defer func() { _ = response.Body.Close() }()
		answer, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10)) // what could not be read says nothing more
		return nil, &Error{Status: response.StatusCode, Reason: reasonOf(response.StatusCode, answer)}
	}
	return response.Body, nil
}

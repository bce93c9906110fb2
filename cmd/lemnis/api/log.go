package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// LogQuery says what is wanted of the log of a run; a zero field wants all.
type LogQuery struct {
	Step   string
	Text   string // lines that contain it
	Kind   string // pipeline or build; empty: the first that there is
	Follow bool   // also what is still to come
}

// Log is the log of a run, as far as it was asked for; the caller closes it. Reading fails where it breaks off. dropped is how many bytes
// of a log that is whole are not kept.
func (c *Client) Log(ctx context.Context, project, run string, q LogQuery) (log io.ReadCloser, dropped int64, err error) {
	v := url.Values{}
	for name, value := range map[string]string{"step": q.Step, "grep": q.Text, "kind": q.Kind} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if q.Follow {
		v.Set("follow", "true")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/api/v1/logs/"+url.PathEscape(project)+"/"+url.PathEscape(run)+"?"+v.Encode(), http.NoBody)
	if err != nil {
		return nil, 0, err
	}
	c.identify(request)
	response, err := c.http.Do(request)
	if err != nil {
		return nil, 0, err
	}
	if response.StatusCode != http.StatusOK {
		defer func() { _ = response.Body.Close() }()
		answer, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10)) // what could not be read says nothing more
		return nil, 0, &Error{Status: response.StatusCode, Reason: reasonOf(response.StatusCode, answer)}
	}
	if text := response.Header.Get(droppedHeader); text != "" {
		if dropped, err = strconv.ParseInt(text, 10, 64); err != nil {
			_ = response.Body.Close()
			return nil, 0, fmt.Errorf("the header %s is %q", droppedHeader, text)
		}
	}
	return response.Body, dropped, nil
}

// droppedHeader is internal/runlog's.
const droppedHeader = "Lemnis-Log-Dropped"

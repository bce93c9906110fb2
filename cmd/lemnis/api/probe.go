package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"
)

// VersionHeader is where gateways and services say, under /healthz and /readyz, which version they are.
const VersionHeader = "Lemnis-Version"

// Answer is what a gateway or service answers, whatever it is.
type Answer struct {
	Status   int
	Text     string
	Version  string    // of the program; empty when it does not say
	Location string    // path and query; empty when none is named
	Date     time.Time // of the other machine, in whole seconds; zero when it does not say
	Expires  time.Time // end of its certificate; zero without TLS
}

// Probe sends a request without a body.
func (c *Client) Probe(ctx context.Context, method, path string) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, http.NoBody)
	if err != nil {
		return Answer{}, err
	}
	c.identify(request)
	response, err := c.http.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Status: response.StatusCode, Text: string(body), Version: response.Header.Get(VersionHeader)}
	if response.StatusCode >= http.StatusBadRequest {
		a.Text = reasonOf(response.StatusCode, body)
	}
	a.Date, _ = http.ParseTime(response.Header.Get("Date")) // one that is none says nothing
	if at, err := url.Parse(response.Header.Get("Location")); err == nil {
		a.Location = at.RequestURI()
	}
	if response.TLS != nil && len(response.TLS.PeerCertificates) > 0 {
		a.Expires = response.TLS.PeerCertificates[0].NotAfter
	}
	return a, nil
}

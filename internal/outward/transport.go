package outward

import (
	"net"
	"net/http"
	"time"
)

// Transport dials what is open only, and keeps what goes without TLS to the addresses that are open to it.
func Transport(open Allowed) http.RoundTripper {
	return byAddress{secure: transport(open, true), plain: transport(open, false)}
}

type byAddress struct{ secure, plain *http.Transport }

// RoundTrip is http.RoundTripper's.
func (t byAddress) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "https" {
		return t.secure.RoundTrip(r)
	}
	return t.plain.RoundTrip(r)
}

// transport asks no proxy of the environment, which would dial in its place, without the check.
func transport(open Allowed, secure bool) *http.Transport {
	return &http.Transport{
		DialContext:     (&net.Dialer{Timeout: 5 * time.Second, Control: open.Control(secure)}).DialContext,
		IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: 4, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 5 * time.Second,
	}
}

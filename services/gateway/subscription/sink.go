package subscription

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	mostAnswer    = 64 << 10 // bytes of an answer's body that are read, so that its connection can be used again
	dialTimeout   = 5 * time.Second
	idleTimeout   = 10 * time.Second // what a burst has opened is closed soon
	mostIdle      = 2048
	ioBuffer      = 2 << 10 // of a connection, each way: an event and its attributes are about as large
	mostIdleAHost = 1024
)

// clients reach sinks: one with TLS, one without. Neither follows redirects or knows of proxies, and both look at the
// address that they dial. They are transports: a client around one copies every request for the sake of redirects.
type clients struct {
	secure, plain *http.Transport
}

// newClients makes clients; resolver may be nil.
func newClients(allow allowed, resolver *net.Resolver, roots *tls.Config) clients {
	one := func(secure bool) *http.Transport {
		dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, Control: allow.control(secure), Resolver: resolver}
		return &http.Transport{
			Proxy: nil, DialContext: dialer.DialContext, TLSClientConfig: roots, ForceAttemptHTTP2: true,
			MaxIdleConns: mostIdle, MaxIdleConnsPerHost: mostIdleAHost, IdleConnTimeout: idleTimeout,
			TLSHandshakeTimeout: dialTimeout, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true, ReadBufferSize: ioBuffer, WriteBufferSize: ioBuffer,
		}
	}
	return clients{secure: one(true), plain: one(false)}
}

func (c clients) close() {
	c.secure.CloseIdleConnections()
	c.plain.CloseIdleConnections()
}

// do sends one request and reads its answer's header; the body is thrown away. What an error says names no URL, which
// may hold a token.
func (c clients) do(ctx context.Context, timeout time.Duration, method, sink string, header http.Header, body []byte) (status int, answer http.Header, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, sink, bytes.NewReader(body))
	if err != nil {
		return 0, nil, errors.New("the sink is no URL")
	}
	r.Header = header
	client := c.plain
	if r.URL.Scheme == "https" {
		client = c.secure
	}
	if r.URL.Host == "" || r.URL.User != nil {
		return 0, nil, errors.New("the sink is no URL to send to")
	}
	resp, err := client.RoundTrip(r)
	if err != nil {
		return 0, nil, unnamed(err, timeout)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, mostAnswer)) // its status has been heard
	return resp.StatusCode, resp.Header, nil
}

// unnamed takes the URL off an error.
func unnamed(err error, timeout time.Duration) error {
	var late net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &late) && late.Timeout() {
		return fmt.Errorf("no answer within %s", timeout)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return err
}

// verdict is what became of one try.
type verdict int

const (
	delivered verdict = iota
	again             // it may succeed later
	refused           // this event never will
	gone              // the receiver wants no more events
)

// outcome is a verdict and what is to be known of it.
type outcome struct {
	verdict verdict
	reason  string
	after   time.Duration // at the earliest
	whole   bool          // the receiver wants to be left alone altogether, not only with this event
}

// judge reads the answer to a delivery.
func judge(status int, h http.Header, err error, now time.Time) outcome {
	if err != nil {
		return outcome{verdict: again, reason: oneLine(err.Error())}
	}
	o := outcome{reason: fmt.Sprintf("the sink answered %d %s", status, http.StatusText(status))}
	switch {
	case status >= 200 && status < 300:
		return outcome{verdict: delivered}
	case status == http.StatusGone:
		o.verdict = gone
	case status >= 300 && status < 400:
		o.verdict, o.reason = again, fmt.Sprintf("the sink answered %d: redirects are not followed; change the sink to where it is now", status)
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusUnsupportedMediaType,
		status == http.StatusUnprocessableEntity:
		o.verdict = refused
	default:
		o.verdict, o.after = again, retryAfter(h, now)
		o.whole = o.after > 0 || status == http.StatusTooManyRequests
	}
	return o
}

func oneLine(s string) string {
	const longest = 300
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	return s
}

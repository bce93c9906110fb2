package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultServer is where `lemnis up` listens unless it is told otherwise.
const DefaultServer = "http://127.0.0.1:8080"

// patience is longer than a gateway takes to say that the bus is away. A gateway that was killed may say nothing at all: its
// connections are not always closed with it, and what is sent over them goes nowhere.
const patience = 15 * time.Second

// most is how many bytes of an answer are read; a page holds at most a thousand events of 1 MiB, but not in practice.
const most = 256 << 20

// Client speaks to one gateway. Its methods may be called from several goroutines.
type Client struct {
	base     string
	token    string
	http     *http.Client
	patience time.Duration // for the answer to a claim, beyond what it asks the gateway to wait
}

// Option changes how a client reaches its gateway.
type Option func(*Client, *http.Transport)

// Token says who asks; empty: nobody in particular.
func Token(text string) Option { return func(c *Client, _ *http.Transport) { c.token = text } }

// TLS says whom to trust; without it those whom the machine trusts.
func TLS(config *tls.Config) Option {
	return func(_ *Client, t *http.Transport) { t.TLSClientConfig = config }
}

// New is a client of the gateway at server, "http://host:port".
func New(server string, options ...Option) *Client {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second, ResponseHeaderTimeout: 40 * time.Second,
	}
	c := &Client{base: strings.TrimRight(server, "/"), http: &http.Client{Transport: transport}, patience: patience}
	for _, o := range options {
		o(c, transport)
	}
	return c
}

// identify puts the token on a request.
func (c *Client) identify(r *http.Request) {
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
}

// Server is the address that the client was made with.
func (c *Client) Server() string { return c.base }

// Close gives idle connections up.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Error is an answer of the gateway that is no success.
type Error struct {
	Status int    // HTTP
	Reason string // for people
}

// Error is the reason and the status.
func (e *Error) Error() string { return fmt.Sprintf("%s (%d)", e.Reason, e.Status) }

// Unreachable reports whether nobody answered at all.
func Unreachable(err error) bool {
	var u *url.Error
	return errors.As(err, &u)
}

// Temporary reports whether the same request may succeed later: the gateway is away, starting or overloaded.
func Temporary(err error) bool {
	var answer *Error
	if errors.As(err, &answer) {
		return answer.Status >= 500 || answer.Status == http.StatusTooManyRequests
	}
	var u *url.Error
	return errors.As(err, &u) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// do sends one request and returns the body of a success.
func (c *Client) do(ctx context.Context, method, path string, header http.Header, body []byte) ([]byte, error) {
	status, answer, err := c.send(ctx, method, path, header, body)
	if err == nil && status >= 300 {
		err = &Error{Status: status, Reason: reasonOf(status, answer)}
	}
	return answer, err
}

// send returns whatever is answered.
func (c *Client) send(ctx context.Context, method, path string, header http.Header, body []byte) (status int, answer []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	for name, values := range header {
		request.Header[name] = values
	}
	c.identify(request)
	response, err := c.http.Do(request)
	switch {
	case err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return 0, nil, &url.Error{Op: method, URL: c.base + path, Err: errors.New("no answer")} // the transport's own limit: a repetition may help
	case err != nil:
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err = io.ReadAll(io.LimitReader(response.Body, most))
	if err != nil {
		// Away in the middle of its answer: a repetition may help, as when it could not be reached.
		return 0, nil, &url.Error{Op: method, URL: c.base + path, Err: fmt.Errorf("read the answer: %w", err)}
	}
	return response.StatusCode, answer, nil
}

// get reads JSON from an address of the gateway.
func (c *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	body, err := c.do(ctx, http.MethodGet, path, http.Header{"Accept": {"application/json"}}, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the answer of %s is no JSON that is understood: %w", path, err)
	}
	return nil
}

// reasonOf finds the sentence in an error answer, which is JSON or plain text.
func reasonOf(status int, body []byte) string {
	var said struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  string          `json:"detail"`
		Reason  string          `json:"reason"`
	}
	if json.Unmarshal(body, &said) == nil {
		text, nested := "", struct {
			Message string `json:"message"`
		}{}
		if json.Unmarshal(said.Error, &text) != nil {
			_ = json.Unmarshal(said.Error, &nested)
		}
		for _, s := range []string{said.Message, said.Detail, said.Reason, nested.Message, text} {
			if s != "" {
				return s
			}
		}
	}
	if text := strings.TrimSpace(string(body)); text != "" && len(text) < 2000 && !strings.HasPrefix(text, "<") {
		return text
	}
	return http.StatusText(status)
}

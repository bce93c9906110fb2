package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/services/gateway/access"
)

// refusal is a no that its reader can act on.
type refusal struct {
	status int // HTTP
	reason string
}

func (r *refusal) Error() string { return r.reason }

func refuse(status int, format string, args ...any) error {
	return &refusal{status: status, reason: fmt.Sprintf(format, args...)}
}

// errAway says that the bus, or what is behind it, does not answer: the same request may succeed later.
var errAway = errors.New("the event bus or the store behind it does not answer")

const retryAfter = 1 // seconds

// problem is an answer of RFC 9457.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// problemOf is what a client may know of an error; ok is false for what only the log may.
func problemOf(err error) (p problem, ok bool) {
	var r *refusal
	var denied *access.DeniedError
	var limit *access.LimitError
	p = problem{Type: "about:blank", Status: http.StatusInternalServerError, Detail: "internal error"}
	switch {
	case errors.As(err, &r):
		p.Status, p.Detail, ok = r.status, r.reason, true
	case errors.Is(err, errNobody), errors.Is(err, access.ErrUnknownToken), errors.Is(err, access.ErrExpired):
		p.Status, p.Detail, ok = http.StatusUnauthorized, err.Error(), true
	case errors.As(err, &denied):
		p.Status, p.Detail, ok = http.StatusForbidden, denied.Error(), true
	case errors.As(err, &limit):
		p.Status, p.Detail, ok = http.StatusTooManyRequests, limit.Error(), true
	case errors.Is(err, errAway):
		p.Status, p.Detail, ok = http.StatusServiceUnavailable, errAway.Error()+"; try again", true
	}
	p.Title = http.StatusText(p.Status)
	return p, ok
}

// fail answers with a problem.
func (g *Gateway) fail(w http.ResponseWriter, r *http.Request, err error) {
	p, known := problemOf(err)
	if errors.Is(err, errAway) {
		if missing := g.host.Missing(r.Context()); len(missing) > 0 {
			p.Detail = strings.Join(missing, "; ") + "; try again"
		}
	}
	if !known {
		g.logRequest(r, err)
	}
	g.metrics.refused(p.Status)
	setRetryAfter(w, err, p.Status)
	g.write(w, p.Status, "application/problem+json", p)
}

// write answers with JSON.
func (g *Gateway) write(w http.ResponseWriter, status int, contentType string, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that went away is told nothing
}

// away turns an error of the bus into one that a client may try again after.
func away(err error) error {
	if err == nil {
		return nil
	}
	var refused *jetstream.APIError
	const messageTooLarge = 10054
	if errors.As(err, &refused) && refused.ErrorCode == messageTooLarge {
		return refuse(http.StatusRequestEntityTooLarge, "the event is larger than 1 MiB")
	}
	return fmt.Errorf("%w: %w", errAway, err)
}

package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/secret"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/access"
	"github.com/lemnis/lemnis/services/gateway/webhook"
)

// mostWebhooks bounds the bytes of the bodies that are held at a time, since they have to be read before it is known
// whose they are.
const mostWebhooks = 64 << 20

// mostWebhooksOfOne is how much of that one project may hold, so that there is room for the others. The largest body has room.
const mostWebhooksOfOne = 26 << 20

// What became of a delivery, as it is counted.
const (
	webhookAccepted      = "accepted"
	webhookDuplicate     = "duplicate"
	webhookEmpty         = "empty"
	webhookUnknown       = "unknown"
	webhookUnauthorized  = "unauthorized"
	webhookRefused       = "refused"
	webhookNotAccessible = "unavailable"
)

// webhookClaim is one claim of a delivery.
type webhookClaim struct {
	receipt
	Type events.Type `json:"type"`
}

// webhookAnswer is what a sender is told. Its log of deliveries shows it to whoever set the webhook up.
type webhookAnswer struct {
	Event  string         `json:"event,omitempty"`
	Claims []webhookClaim `json:"claims"`
	Detail string         `json:"detail,omitempty"`
}

// takeWebhook answers POST /webhooks/{kind}/{project}: 202 with the claims that a delivery made, 200 when they are there
// already or it says nothing of the lifecycle. All claims are on the stream then; the same delivery again completes what
// a 503 left.
func (g *Gateway) takeWebhook(w http.ResponseWriter, r *http.Request) {
	kind, project := r.PathValue("kind"), r.PathValue("project")
	sender, ok := webhook.Lookup(kind)
	if !ok {
		g.fail(w, r, refuse(http.StatusNotFound, "there are no webhooks of %s; there are github, gitlab, gitea, forgejo, alertmanager", quote(kind)))
		return
	}
	status, answer, outcome, err := g.webhook(w, r, sender, project)
	g.metrics.webhook(kind, outcome)
	if outcome == webhookUnauthorized {
		w.Header().Set("WWW-Authenticate", map[bool]string{true: `HMAC-SHA256 realm="lemnis"`, false: `Bearer realm="lemnis"`}[sender.Signs()])
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	g.write(w, status, "application/json", answer)
}

func (g *Gateway) webhook(w http.ResponseWriter, r *http.Request, sender webhook.Sender, name string) (int, webhookAnswer, string, error) {
	none := webhookAnswer{Claims: []webhookClaim{}}
	p, body, release, err := g.authenticWebhook(w, r, sender, name)
	defer release()
	if err != nil {
		return 0, none, outcomeOf(err), err
	}
	if g.authenticated {
		if err := g.counted(g.limiter.Request(r.Context(), access.From(r.Context()).Principal+"/"+name)); err != nil {
			return 0, none, outcomeOf(err), err
		}
	}
	none.Event = sender.Event(r.Header)
	said, err := sender.Translate(r.Header, body, p, time.Now().UTC())
	var unknown *webhook.UnknownError
	switch {
	case errors.As(err, &unknown):
		if err := g.keepWebhook(r.Context(), sender.Kind, name, unknown.Event, r.Header, body); err != nil {
			return 0, none, outcomeOf(err), err
		}
		none.Event, none.Detail = unknown.Event, "no claim is made of this event; it is kept for inspection at /api/v1/webhooks/unknown?project="+name
		return http.StatusAccepted, none, webhookUnknown, nil
	case err != nil:
		err = badWebhook(err)
		return 0, none, outcomeOf(err), err
	case len(said) == 0:
		none.Detail = "nothing in this delivery concerns the lifecycle"
		return http.StatusOK, none, webhookEmpty, nil
	}
	claims, err := g.claimAll(r.Context(), access.From(r.Context()).Principal, said)
	if err != nil {
		return 0, none, outcomeOf(err), err
	}
	none.Claims = claims
	for _, c := range claims {
		if !c.Duplicate {
			return http.StatusAccepted, none, webhookAccepted, nil
		}
	}
	return http.StatusOK, none, webhookDuplicate, nil
}

// claimAll admits every claim before the first goes on the stream, so that what is refused leaves nothing behind.
func (g *Gateway) claimAll(ctx context.Context, principal string, said []events.Event) ([]webhookClaim, error) {
	admitted := make([]claim, len(said))
	for i, e := range said {
		body, err := e.AppendBody(nil)
		if err != nil {
			return nil, badEvent(err)
		}
		if admitted[i], err = g.door.admit(ctx, principal, e, body); err != nil {
			return nil, err
		}
		admitted[i].derived = true // a delivery may be read otherwise by now: by another configuration, or version
	}
	claims := make([]webhookClaim, len(admitted))
	for i, c := range admitted {
		got, err := g.put(ctx, c)
		if err != nil {
			return nil, err
		}
		claims[i] = webhookClaim{receipt: got, Type: c.event.Type}
	}
	return claims, nil
}

// metered counts a body against the room that all bodies have, as it arrives: who announces much and sends little holds
// little.
type metered struct {
	io.ReadCloser
	room *bodyRoom
	of   string // project
	held int64
	full bool // there was no room
}

// bodyRoom is the room that all bodies have, and how much of it each project holds.
type bodyRoom struct {
	mu   sync.Mutex
	all  int64
	each map[string]int64
}

func (b *bodyRoom) take(project string, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all+n > mostWebhooks || b.each[project]+n > mostWebhooksOfOne {
		return false
	}
	if n > 0 {
		b.all += n
		b.each[project] += n
	}
	return true
}

func (b *bodyRoom) give(project string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all -= n
	if b.each[project] -= n; b.each[project] <= 0 {
		delete(b.each, project)
	}
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if !m.room.take(m.of, int64(n)) {
		m.full = true
		return 0, errNoRoom
	}
	m.held += int64(n)
	return n, err
}

func (m *metered) release() { m.room.give(m.of, m.held) }

var errNoRoom = refuse(http.StatusServiceUnavailable, "too many webhooks arrive at the same time; try again")

// authenticWebhook reads a body that its sender has proved to be its own. release gives back the room that the body takes.
func (g *Gateway) authenticWebhook(w http.ResponseWriter, r *http.Request, sender webhook.Sender, name string) (p events.Project, body []byte, release func(), err error) {
	release = func() {}
	if events.ValidProject(name) != nil || !sender.Offers(r.Header) {
		return p, nil, release, errNoProof
	}
	if p, err = g.overview.project(r.Context(), name); err != nil {
		return p, nil, release, err
	}
	secrets, err := g.webhookSecrets(p, sender.Kind)
	if err != nil {
		return p, nil, release, err
	}
	if len(secrets) == 0 || !sender.Signs() && !sender.Authentic(r.Header, nil, secrets) {
		return p, nil, release, errNoProof
	}
	arriving := &metered{ReadCloser: r.Body, room: &g.webhookRoom, of: name}
	r.Body, release = arriving, arriving.release
	if body, err = readBody(w, r, sender.MaxBytes); err != nil {
		var no *refusal
		switch {
		case arriving.full:
			err = errNoRoom
		case errors.As(err, &no) && no.status == http.StatusRequestEntityTooLarge:
			err = refuse(no.status, "the payload has more than %d bytes", sender.MaxBytes)
		}
		return p, nil, release, err
	}
	if sender.Signs() && !sender.Authentic(r.Header, body, secrets) {
		return p, nil, release, errNoProof
	}
	return p, body, release, nil
}

// errNoProof is the same for every reason: it is told to whoever asks.
var errNoProof = refuse(http.StatusUnauthorized, "the delivery does not prove that its sender knows the secret of this project's webhook, or the project has none (webhooks.<kind>.secret)")

// webhookSecrets are the lines of the secret's file, each of which counts: so a secret can be replaced without a gap.
// Without a configuration there are none.
func (g *Gateway) webhookSecrets(p events.Project, kind events.WebhookKind) ([]string, error) {
	name, ok := strings.CutPrefix(p.Webhooks[kind].Secret, "secret:")
	if !ok {
		return nil, nil
	}
	text, err := secret.Read(g.secrets, p.Name, name)
	if err != nil {
		g.log.Error("the secret of a webhook can not be read", zap.String("project", p.Name), zap.String("kind", string(kind)), zap.Error(err))
		return nil, refuse(http.StatusServiceUnavailable, "the secret of this project's webhook can not be read")
	}
	var all []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all, nil
}

// badWebhook makes an answer of what a delivery could not be understood for.
func badWebhook(err error) error {
	switch {
	case errors.Is(err, webhook.ErrForeign):
		return refuse(http.StatusForbidden, "%v", err)
	case errors.Is(err, webhook.ErrUnsupported):
		return refuse(http.StatusUnsupportedMediaType, "%v", err)
	case errors.Is(err, webhook.ErrMalformed), errors.Is(err, webhook.ErrMismatch):
		return refuse(http.StatusBadRequest, "%v", err)
	}
	return fmt.Errorf("translate a webhook: %w", err)
}

func outcomeOf(err error) string {
	switch p, _ := problemOf(err); p.Status {
	case http.StatusUnauthorized:
		return webhookUnauthorized
	case http.StatusServiceUnavailable:
		return webhookNotAccessible
	}
	return webhookRefused
}

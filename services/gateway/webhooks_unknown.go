package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/access"
)

// The stream of deliveries that no claim was made of: bounded, the oldest give way. It is made with the first.
const (
	webhookStream   = "WEBHOOKS"
	webhookSubject  = "webhooks.unknown." // <project>.<kind>
	mostUnknown     = 100                 // of a project and kind
	mostUnknownAll  = 64 << 20            // bytes
	longestUnknown  = 256 << 10           // bytes that are kept of one
	oldestUnknown   = 30 * 24 * time.Hour
	headerEvent     = "Lemnis-Event"
	headerSize      = "Lemnis-Size" // of the whole body
	headerMediaType = "Lemnis-Content-Type"
)

// keepWebhook keeps a delivery for whoever wants to know what it was. Headers are left out: they may hold the secret.
func (g *Gateway) keepWebhook(ctx context.Context, kind events.WebhookKind, project, event string, h http.Header, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if !g.host.Conn.IsConnected() {
		return errAway
	}
	if err := g.ensureWebhookStream(ctx); err != nil {
		return away(err)
	}
	sum := sha256.Sum256(body)
	m := nats.NewMsg(webhookSubject + project + "." + string(kind))
	m.Header.Set(headerEvent, oneLine(event))
	m.Header.Set(headerMediaType, oneLine(h.Get("Content-Type")))
	m.Header.Set(headerSize, strconv.Itoa(len(body)))
	m.Header.Set(nats.MsgIdHdr, project+"/"+string(kind)+"/"+hex.EncodeToString(sum[:]))
	m.Data = body[:min(len(body), longestUnknown)]
	_, err := g.host.JS.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
	return away(err)
}

func (g *Gateway) ensureWebhookStream(ctx context.Context) error {
	if g.webhookStream.Load() {
		return nil
	}
	err := natsd.EnsureStream(ctx, g.host.JS, jetstream.StreamConfig{
		Name: webhookStream, Description: "webhook deliveries that no claim was made of", Subjects: []string{webhookSubject + "*.*"},
		MaxMsgsPerSubject: mostUnknown, MaxBytes: mostUnknownAll, MaxAge: oldestUnknown, Discard: jetstream.DiscardOld,
		Storage: jetstream.FileStorage, Replicas: max(g.host.Replicas, 1), Duplicates: 2 * time.Minute,
	})
	if err != nil {
		return fmt.Errorf("make the stream %s: %w", webhookStream, err)
	}
	g.webhookStream.Store(true)
	return nil
}

// oneLine keeps what a stranger wrote from ending a header.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), 200)]
}

// unknownAnswer is one delivery that no claim was made of.
type unknownAnswer struct {
	Sequence    uint64          `json:"sequence"` // among them
	Time        time.Time       `json:"time"`
	Project     string          `json:"project"`
	Kind        string          `json:"kind"`
	Event       string          `json:"event"`
	ContentType string          `json:"contentType,omitempty"`
	Size        int             `json:"size"`           // bytes of the whole body
	Body        json.RawMessage `json:"body,omitempty"` // when it is JSON, and kept whole
	Text        string          `json:"text,omitempty"` // else, as much as is kept
}

// unknownWebhooks answers GET /api/v1/webhooks/unknown: deliveries that no claim was made of, in order, behind a sequence.
func (g *Gateway) unknownWebhooks(w http.ResponseWriter, r *http.Request) {
	after, limit, err := parsePage(r.URL.Query())
	if err != nil {
		g.fail(w, r, err)
		return
	}
	filter := webhookSubject + "*.*"
	if project := r.URL.Query().Get("project"); project != "" {
		if err := events.ValidProject(project); err != nil {
			g.fail(w, r, refuse(http.StatusBadRequest, "%v", err))
			return
		}
		filter = webhookSubject + project + ".*"
	}
	answer := struct {
		Deliveries []unknownAnswer `json:"deliveries"`
		Next       *string         `json:"next"`
	}{Deliveries: []unknownAnswer{}}
	bytes, visible := 0, access.From(r.Context()).MayRead
	ended, err := scan(r.Context(), g.host, webhookStream, []string{filter}, after, func(m service.Message) bool {
		if a := unknownOf(m); visible(a.Project) {
			answer.Deliveries = append(answer.Deliveries, a)
			bytes += len(a.Body) + len(a.Text)
		}
		return len(answer.Deliveries) < limit && bytes < mostBatch || m.Pending == 0
	})
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) { // none was ever kept
		g.fail(w, r, away(err))
		return
	}
	if n := len(answer.Deliveries); err == nil && n > 0 && !ended {
		next := strconv.FormatUint(answer.Deliveries[n-1].Sequence, 10)
		answer.Next = &next
	}
	g.write(w, http.StatusOK, "application/json", answer)
}

func unknownOf(m service.Message) unknownAnswer {
	tokens := strings.Split(m.Subject(), ".")
	h, data := m.Headers(), m.Data()
	a := unknownAnswer{Sequence: m.Sequence, Time: m.Stored, Event: header(h, headerEvent), ContentType: header(h, headerMediaType)}
	if len(tokens) == 4 {
		a.Project, a.Kind = tokens[2], tokens[3]
	}
	a.Size, _ = strconv.Atoi(header(h, headerSize))
	if json.Valid(data) {
		a.Body = data
	} else {
		a.Text = strings.ToValidUTF8(string(data), "�")
	}
	return a
}

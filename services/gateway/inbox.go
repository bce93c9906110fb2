package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/access"
)

const (
	inboxStream  = "SUBMIT_"
	inboxReader  = "gateway"
	inboxAckWait = 15 * time.Second // a claim has reached the stream by then, or is not asked for any more
	// inboxPatience is how long an inbox waits for a limit's next window. What waits would keep the principal's other projects
	// from being heard.
	inboxPatience = time.Minute
)

// takeFromInbox moves what a principal submits over NATS onto the stream as claims, in order, in one gateway at a time.
func (g *Gateway) takeFromInbox(ctx context.Context, who access.Identity) error {
	ctx = access.With(ctx, who)
	principal := who.Principal
	return service.WhileOwner(ctx, g.host, "inbox-"+principal, func(ctx context.Context) error {
		// One message out at a time: a redelivered one can then not come after its successors.
		consumer, err := g.host.JS.CreateOrUpdateConsumer(ctx, inboxStream+principal, jetstream.ConsumerConfig{
			Durable: inboxReader, AckPolicy: jetstream.AckExplicitPolicy, AckWait: inboxAckWait, MaxAckPending: 1, MaxDeliver: -1,
			Replicas: g.host.Replicas,
		})
		if err != nil {
			return fmt.Errorf("inbox of %s: %w", principal, err)
		}
		err = service.Take(ctx, consumer, func(m jetstream.Msg) { g.submit(ctx, principal, m) })
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the lease was lost, or the gateway stops
		}
		return fmt.Errorf("inbox of %s: %w", principal, err)
	})
}

// submit makes a claim of a message, or a dead letter, and acknowledges it only then. While the bus is away it waits.
func (g *Gateway) submit(ctx context.Context, principal string, m jetstream.Msg) {
	for backoff := 100 * time.Millisecond; ; backoff = min(2*backoff, 5*time.Second) {
		e, err := g.submitOnce(ctx, principal, m)
		if ctx.Err() != nil {
			_ = m.Nak() // failing, it comes when its time is up
			return
		}
		if errors.Is(err, errAway) {
			g.log.Warn("the inbox waits", zap.String("principal", principal), zap.Error(err))
			_ = m.InProgress() // failing, it comes again, and is the same claim
			pause(ctx, backoff)
			continue
		}
		if err != nil {
			if err = g.buryMessage(ctx, principal, m, e, err); err != nil {
				return
			}
		}
		if err := m.Ack(); err != nil {
			g.log.Warn("a submitted message is not acknowledged; it comes again", zap.Error(err))
		}
		return
	}
}

func (g *Gateway) submitOnce(ctx context.Context, principal string, m jetstream.Msg) (events.Event, error) {
	e, body, err := g.readSubmitted(ctx, m.Headers(), m.Data())
	if err != nil {
		return e, err
	}
	c, err := g.door.admit(ctx, principal, e, body)
	var limit *access.LimitError
	if errors.As(err, &limit) && limit.After <= inboxPatience {
		return e, fmt.Errorf("%w: %w", errAway, err) // it waits for the next window, and what is behind it too
	}
	if err != nil {
		return e, err
	}
	got, err := g.put(ctx, c)
	if err == nil {
		g.metrics.submitted.Add(1)
		g.log.Debug("submitted", zap.String("principal", principal), zap.Uint64("sequence", got.Sequence))
	}
	return e, err
}

// readSubmitted reads an event as principals submit it. With an error, the event has the project that it is of, at most.
func (g *Gateway) readSubmitted(ctx context.Context, header nats.Header, data []byte) (events.Event, []byte, error) {
	h := make(nats.Header, len(header))
	for name, values := range header {
		if !steering(name) {
			h[name] = values
		}
		if len(values) > 1 && strings.HasPrefix(strings.ToLower(name), "ce-") {
			return events.Event{}, nil, refuse(400, "the header %s is there %d times", quote(name), len(values))
		}
	}
	e, body, err := events.DecodeMessage(h, data)
	if err != nil {
		if d, ok := g.mappedMessage(ctx, h, data); ok {
			if d.Err != nil {
				d.Err = badEvent(d.Err)
			}
			return d.Event, d.Body, d.Err
		}
		return events.Event{Project: projectSaid(h, data)}, nil, badEvent(err)
	}
	return e, body, nil
}

// projectSaid is the project that a message names which is no event, so that its dead letter is found by it.
func projectSaid(h nats.Header, data []byte) string {
	if name := header(h, "ce-project"); name != "" {
		return name
	}
	var said struct {
		Project string `json:"project"`
	}
	if json.Unmarshal(data, &said) != nil {
		return ""
	}
	return said.Project
}

// steering tells the headers that the bus obeys from those of an event.
func steering(name string) bool { return strings.HasPrefix(strings.ToLower(name), "nats-") }

func header(h nats.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// buryMessage keeps what was refused with the reason, but not what somebody may have said in confidence.
func (g *Gateway) buryMessage(ctx context.Context, principal string, m jetstream.Msg, e events.Event, reason error) error {
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	l := service.Letter{
		Header: m.Headers(), Data: m.Data(), Subject: m.Subject(), Sequence: meta.Sequence.Stream,
		Inbox: "inbox-" + principal, Project: e.Project, Reason: reason,
	}
	if confidential(m) {
		l.Data, l.Reason = nil, fmt.Errorf("%w (feedback: its body is not kept)", reason)
	}
	if err := service.Bury(ctx, g.host, l); err != nil {
		return err
	}
	g.metrics.buried.Add(1)
	return nil
}

// confidential reports whether a message looks like feedback, whose words must not be kept as they are.
func confidential(m jetstream.Msg) bool {
	const word = "feedback.received"
	if bytes.Contains(m.Data(), []byte(word)) || strings.Contains(m.Subject(), word) {
		return true
	}
	for _, values := range m.Headers() {
		for _, v := range values {
			if strings.Contains(v, word) {
				return true
			}
		}
	}
	return false
}

package service

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/pkg/events"
)

// Headers that a dead letter has beside those of the message that it was.
const (
	HeaderReason    = "Lemnis-Reason"    // why it can not be handled, one line
	HeaderSubject   = "Lemnis-Subject"   // subject of the message
	HeaderSequence  = "Lemnis-Sequence"  // its place on the stream
	HeaderAggregate = "Lemnis-Aggregate" // kind/key of the aggregate that it failed for
	HeaderTries     = "Lemnis-Tries"
)

// letter is a message that failed for good.
type letter struct {
	header    nats.Header
	data      []byte
	subject   string
	sequence  uint64
	project   string
	phase     events.Phase
	aggregate string
	tries     uint64
	again     uint64 // place of the claim that had it sent again, where the message keeps its own
	reason    error
}

// buryLetter puts a message into the dead letter stream, once, and waits for the ack: only then may
// whoever met it go on.
func buryLetter(ctx context.Context, h Host, l letter) error {
	msg := &nats.Msg{Subject: "deadletter." + orNone(l.project) + "." + string(l.phase), Header: nats.Header{}, Data: l.data}
	for name, v := range l.header {
		if !isNATSHeader(name) {
			msg.Header[name] = v
		}
	}
	msg.Header[HeaderReason] = []string{oneLine(l.reason.Error())}
	msg.Header[HeaderSubject] = []string{l.subject}
	msg.Header[HeaderSequence] = []string{formatUint(l.sequence)}
	if l.aggregate != "" {
		msg.Header[HeaderAggregate] = []string{l.aggregate}
	}
	if l.tries > 0 {
		msg.Header[HeaderTries] = []string{formatUint(l.tries)}
	}
	id := fmt.Sprintf("d/%s/%d/%s", l.phase, l.sequence, l.aggregate)
	if l.again > 0 { // or the stream takes it for the letter of before
		id += "/" + formatUint(l.again)
	}
	msg.Header[headerMsgID] = []string{id}
	h.Log.Error("dead letter", zap.Uint64("sequence", l.sequence), zap.String("subject", l.subject),
		zap.String("aggregate", l.aggregate), zap.Error(l.reason))
	for {
		pubCtx, cancel := context.WithTimeout(ctx, publishTimeout)
		_, err := h.JS.PublishMsg(pubCtx, msg)
		cancel()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		h.metrics.notPublished()
		h.Log.Error("the dead letter can not be written; trying again", zap.Error(err))
		wait(ctx, time.Second)
	}
}

// Letter is a message that could not even become a claim.
type Letter struct {
	Header   nats.Header // as it came
	Data     []byte
	Subject  string // that it came on
	Sequence uint64 // its place on the stream named Inbox
	Inbox    string // one token: where it came in
	Project  string // empty when it is not known
	Reason   error
	// Of an event that could not be handed on: to whom, as kind/key, and how often it was tried.
	Aggregate string
	Tries     uint64
	Again     uint64 // place of the claim that had it sent again; 0: it was not
}

// Bury puts a message from outside into the dead letter stream, once, and returns when it is there
// or ctx ended. Headers that steer the bus, or that a dead letter has itself, are not taken over.
func Bury(ctx context.Context, h Host, l Letter) error {
	header := nats.Header{}
	for name, v := range l.Header {
		if !strings.HasPrefix(strings.ToLower(name), "lemnis-") {
			header[name] = v
		}
	}
	return buryLetter(ctx, h, letter{
		header: header, data: l.Data, subject: l.Subject, sequence: l.Sequence, project: l.Project,
		phase: events.Phase(l.Inbox), reason: l.Reason, aggregate: l.Aggregate, tries: l.Tries, again: l.Again,
	})
}

// bury puts a cause aside for one aggregate; others may still handle it.
func (t *term) bury(ctx context.Context, e *events.Event, kind, key string, reason error) error {
	m, err := events.Encode(*e)
	if err != nil {
		return fmt.Errorf("dead letter of event %d: %w", e.Sequence, err)
	}
	t.metrics.deadLetters.Add(1)
	return buryLetter(ctx, t.host, letter{
		header: m.Header, data: m.Data, subject: e.Subject(e.Kind), sequence: e.Sequence, project: e.Project,
		phase: t.def.Phase, aggregate: kind + "/" + key, reason: reason,
	})
}

// buryRaw puts a message aside that can not even be decoded or routed.
func (t *term) buryRaw(ctx context.Context, m Message, kind, key string, reason error) error {
	t.metrics.deadLetters.Add(1)
	l := letter{header: m.Headers(), data: m.Data(), subject: m.Subject(), sequence: m.Sequence, project: token(m.Subject(), 1), phase: t.def.Phase, reason: reason}
	if kind != "" {
		l.aggregate = kind + "/" + key
	}
	return buryLetter(ctx, t.host, l)
}

// isNATSHeader tells the headers that steer the bus from those of an event.
func isNATSHeader(name string) bool { return strings.HasPrefix(strings.ToLower(name), "nats-") }

// oneLine keeps a reason readable in a header.
func oneLine(s string) string {
	const limit = 1000
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return s
}

func orNone(project string) string {
	if events.ValidProject(project) != nil {
		return internalProject
	}
	return project
}

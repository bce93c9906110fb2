package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// ofEffect stands in a dead letter before the name of the effect that gave a fact up.
const ofEffect = "effect/"

// resendOf is what an event of the phase asks for when it is a dead letter that is sent again; false when it is not one.
func resendOf(e *events.Event) (events.DeadLetterResent, bool) {
	c, ok := e.Content.(events.DeadLetterResent)
	return c, ok && e.Kind == events.Claim && e.Project != internalProject
}

// again makes a cause of a dead letter that is sent again: the original as it stands on the stream, at the place and time
// of the claim that asks for it, for the aggregates only that it failed for. It is a cause like any other from there on:
// decided in stream order, answered by at most one fact of an aggregate, which names this place as its cause's.
//
// An original that can not be had or read is the claim's own poison.
func (t *term) again(ctx context.Context, project *events.Project, claim *events.Event, r events.DeadLetterResent) ([]task, error) {
	if strings.HasPrefix(r.Aggregate, ofEffect) {
		return nil, nil // its workers read it themselves
	}
	e, only, err := original(ctx, t.host, r)
	var poison *poisonError
	switch {
	case errors.As(err, &poison):
		c := &cause{event: claim, project: project}
		return []task{{cause: c, kind: t.kinds[unrouted], key: slotOf(*claim), poison: poison}}, nil
	case err != nil:
		return nil, err
	}
	e.Sequence, e.Stored = claim.Sequence, claim.Stored
	tasks, err := t.route(project, &e)
	name, key, _ := strings.Cut(only, "/")
	kind := t.kinds[name]
	if kind == nil { // it got no further than to be routed
		return tasks, err
	}
	c := &cause{event: &e, project: project}
	if err != nil {
		poison = poisonous(err)
	} else if len(tasks) == 1 {
		poison = tasks[0].poison
	}
	if poison != nil { // it becomes the reason of a dead letter of the same aggregate
		return []task{{cause: c, kind: kind, key: key, poison: poison}}, nil //nolint:nilerr // the error is the reason
	}
	for _, k := range tasks {
		if k.kind == kind && k.key == key {
			return []task{k}, nil
		}
	}
	if e.Kind == events.Claim { // this version has no such aggregate for it; its author gets an answer
		return []task{{cause: c, kind: t.kinds[unrouted], key: slotOf(e)}}, nil
	}
	return nil, nil
}

// original reads the message again that a dead letter was; what was itself sent again leads to what it was at first. only
// is the aggregate or effect that it is for, empty when it got no further than to be routed. The error is a *[poisonError]
// when there is no such message, or it can not be read; else ctx ended.
func original(ctx context.Context, h Host, r events.DeadLetterResent) (e events.Event, only string, err error) {
	for sequence := uint64(0); ; {
		if kind, _, _ := strings.Cut(r.Aggregate, "/"); only == "" && kind != unrouted {
			only = r.Aggregate
		}
		if sequence > 0 && r.Origin >= sequence {
			return e, "", poisonous(fmt.Errorf("event %d names %d, which is no earlier one", sequence, r.Origin))
		}
		sequence = r.Origin
		if e, err = readAgain(ctx, h, sequence); err != nil {
			return e, "", err
		}
		var again bool
		if r, again = resendOf(&e); !again {
			return e, only, nil
		}
	}
}

// readAgain reads one event of the stream, however long that takes.
func readAgain(ctx context.Context, h Host, sequence uint64) (events.Event, error) {
	var stream jetstream.Stream
	for {
		var m *jetstream.RawStreamMsg
		get, cancel := context.WithTimeout(ctx, publishTimeout)
		var err error
		if stream == nil {
			stream, err = h.JS.Stream(get, natsd.Lifecycle)
		}
		if err == nil {
			m, err = MessageAt(get, h, stream, sequence)
		}
		cancel()
		switch {
		case ctx.Err() != nil:
			return events.Event{}, ctx.Err()
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return events.Event{}, poisonous(fmt.Errorf("event %d is not on the stream any more", sequence))
		case err != nil:
			h.Log.Warn("a dead letter's original can not be read; trying again", zap.Uint64("sequence", sequence), zap.Error(err))
			wait(ctx, 100*time.Millisecond)
			continue
		}
		kind := events.Kind(token(m.Subject, 0))
		e, err := decodeStored(m.Header, m.Data, kind, m.Sequence, m.Time)
		if err != nil {
			return events.Event{}, poisonous(fmt.Errorf("event %d can not be read: %w", sequence, err))
		}
		return e, nil
	}
}

// resentFilter is what an effect's consumer reads beside the facts that ask for the work.
func resentFilter(phase events.Phase) string {
	return events.Filter(events.Claim, "", phase, events.TypeOf(events.DeadLetterResent{}))
}

// wanted is the fact that a message asks an effect's work for, and how many attempts at it were before those of this
// message; false when it asks another one. A message is a fact, or a claim to try one again that was given up.
func wanted(ctx context.Context, h Host, e Effect, s Message) (fact events.Event, before uint64, ok bool, err error) {
	fact, err = s.Event()
	if err != nil || s.Kind == events.Stated {
		return fact, 0, err == nil, err
	}
	r, is := resendOf(&fact)
	if !is || r.Aggregate != ofEffect+e.Name {
		return fact, 0, false, nil
	}
	fact, _, err = original(ctx, h, r)
	return fact, r.Tries, err == nil, err
}

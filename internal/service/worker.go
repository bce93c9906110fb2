package service

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

const (
	headerMsgID        = "Nats-Msg-Id"
	headerExpectLast   = "Nats-Expected-Last-Subject-Sequence"
	headerExpectFilter = "Nats-Expected-Last-Subject-Sequence-Subject"

	publishTimeout = 2 * time.Second
	gapBatch       = 256
	// strangers is how often a duplicate ack may point at no fact of ours before the cause is put
	// aside: with replicas a fact may become readable a little after its ack.
	strangers = 20
)

// task is one event for one aggregate.
type task struct {
	cause *cause
	kind  *Aggregate
	key   string
}

// worker decides for the partitions that hash to it, one task at a time, in stream order.
type worker struct {
	term       *term
	tasks      chan task
	snapshots  chan snapshotRequest
	stopped    chan struct{} // closed when run has returned
	partitions map[fold.PartitionID]*partition
}

func (w *worker) run(ctx context.Context) error {
	defer close(w.stopped)
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-w.snapshots:
			w.snapshot(r)
		case t, ok := <-w.tasks:
			if !ok {
				return nil
			}
			if err := w.handle(ctx, t); err != nil {
				return err
			}
			t.cause.open.Add(-1)
		}
	}
}

// handle brings one task to its end: a fact, nothing to say, or the dead letter. An error ends
// the term: the task stays unhandled and the next owner meets it again.
func (w *worker) handle(ctx context.Context, t task) error {
	id := fold.PartitionID{Project: t.cause.event.Project, Partition: events.Partition(t.key)}
	p := w.partitions[id]
	if p == nil {
		p = newPartition(w.term.def.Phase, id)
		w.partitions[id] = p
	}
	if err := w.term.faults.at(stepReceived, t.cause.event); err != nil {
		return err
	}
	for try := 0; ; try++ {
		a := p.peek(field{t.kind.kind, t.key})
		if t.cause.event.Sequence <= a.watermark && !w.term.faults.broken(breakWatermark) {
			if try > 0 { // it stands after all: the answer was lost, or another owner was faster
				return w.term.faults.at(stepPublished, t.cause.event)
			}
			return nil
		}
		fact, ok, err := w.decide(a.state, t)
		if err != nil {
			return w.term.bury(ctx, t.cause.event, t.kind.kind, t.key, err)
		}
		if !ok {
			return nil
		}
		e := w.term.state(fact, t)
		if err := w.term.faults.at(stepDecided, t.cause.event); err != nil {
			return err
		}
		done, err := w.publish(ctx, p, t, e, try)
		if done || err != nil {
			return err
		}
	}
}

// decide asks the aggregate; a panic is an error. A claim always gets an answer.
func (w *worker) decide(state any, t task) (fact events.Fact, ok bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s/%s panics on %s: %v\n%s", t.kind.kind, t.key, t.cause.event.Type.Short(), r, debug.Stack())
		}
	}()
	e, project := *t.cause.event, *t.cause.project
	if e.Kind == events.Claim {
		if reason := unbelievable(project, e); reason != "" {
			fact, ok = events.Refuse(e, reason)
			return fact, ok, nil
		}
	}
	fact, ok = t.kind.decide(t.key, state, project, e)
	if !ok && e.Kind == events.Claim {
		fact, ok = events.Refuse(e, "it changes nothing")
	}
	if ok && events.TypeOf(fact.Content) == "" {
		return events.Fact{}, false, fmt.Errorf("%s/%s states a %T, which is no content type", t.kind.kind, t.key, fact.Content)
	}
	return fact, ok, nil
}

// unbelievable says why a principal may not claim such a thing; empty when it may.
func unbelievable(p events.Project, e events.Event) string {
	entry, _ := events.Lookup(e.Type)
	switch {
	case !entry.Claimable:
		return e.Type.Short() + " can not be claimed: only a service may say it"
	case entry.Open || p.Owner(e.Phase) == e.Principal:
		return ""
	case p.Runs(e.Phase):
		return fmt.Sprintf("the %s phase of %s is done by Lemnis itself; name %q under owners to let it say %s", e.Phase, e.Project, e.Principal, e.Type.Short())
	default:
		return fmt.Sprintf("the %s phase of %s is owned by %q, not by %q", e.Phase, e.Project, p.Owner(e.Phase), e.Principal)
	}
}

// publish puts the fact on the stream behind the last one of its partition. False means that
// something else stood there: it is folded now, and the task has to be decided again.
func (w *worker) publish(ctx context.Context, p *partition, t task, e events.Event, try int) (bool, error) {
	msg, err := events.Encode(e)
	if err != nil {
		return true, w.term.bury(ctx, t.cause.event, t.kind.kind, t.key, err)
	}
	msg.Subject = e.Subject(events.Stated)
	msg.Header[headerMsgID] = []string{"f/" + e.ID}
	if !w.term.faults.broken(breakFence) {
		msg.Header[headerExpectLast] = []string{formatUint(p.last)}
		msg.Header[headerExpectFilter] = []string{p.fence}
	}
	pubCtx, cancel := context.WithTimeout(ctx, publishTimeout)
	ack, err := w.term.host.JS.PublishMsg(pubCtx, msg)
	cancel()
	if ctx.Err() != nil {
		return true, ctx.Err()
	}
	if err == nil && !ack.Duplicate {
		if err := w.term.faults.at(stepPublished, t.cause.event); err != nil {
			return true, err
		}
		e.Kind, e.Sequence = events.Stated, ack.Sequence
		if w.term.comesBack(e.Type) {
			w.term.own.put(e)
		}
		p.fold(w.term.kinds, e)
		w.term.metrics.decided.Add(1)
		return true, w.term.faults.at(stepFolded, t.cause.event)
	}
	if err == nil && try >= strangers {
		return true, w.term.bury(ctx, t.cause.event, t.kind.kind, t.key,
			fmt.Errorf("message %d holds the id of the fact %s, and is not that fact", ack.Sequence, e.ID))
	}
	w.term.metrics.conflicts.Add(1)
	if err := w.term.catchUp(ctx, p); err != nil {
		return true, err
	}
	if try > 0 { // nothing new to see yet: give the stream time
		wait(ctx, min(time.Duration(try)*5*time.Millisecond, 200*time.Millisecond))
	}
	var apiErr *jetstream.APIError
	if err != nil && errors.As(err, &apiErr) && apiErr.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence && !transient(apiErr) {
		if tooLarge(apiErr) {
			return true, w.term.bury(ctx, t.cause.event, t.kind.kind, t.key, fmt.Errorf("its fact can not be published: %w", err))
		}
		w.term.log.Warn("publishing is refused; trying again", append(logEvent(e), zap.Error(err))...)
		wait(ctx, time.Second)
	}
	return false, ctx.Err()
}

// transient tells a conflict with another write under way from a refusal.
func transient(err *jetstream.APIError) bool {
	const (
		wrongLastSequenceConstant = 10164 // a write under the same fence is in flight
		notLeader                 = 10009
	)
	return err.ErrorCode == wrongLastSequenceConstant || err.ErrorCode == notLeader || err.Code == 503
}

func tooLarge(err *jetstream.APIError) bool {
	const messageExceedsMaximum = 10054
	return err.ErrorCode == messageExceedsMaximum
}

// catchUp folds the facts of a partition that stand behind the last one folded.
func (t *term) catchUp(ctx context.Context, p *partition) error {
	for {
		n, err := t.readGap(ctx, p)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errUnreadable):
			return err
		case err != nil:
			t.log.Warn("reading what stands in the gap failed; trying again", zap.String("fence", p.fence), zap.Error(err))
			wait(ctx, 100*time.Millisecond)
		case n == 0: // a short batch may have been cut by its size
			return nil
		}
	}
}

// errUnreadable says that a fact on the stream can not be decoded: nothing may be decided on it.
var errUnreadable = errors.New("a fact can not be read")

// readGap folds one batch of the gap and returns its size.
func (t *term) readGap(ctx context.Context, p *partition) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	msgs, err := jetstreamext.GetBatch(ctx, t.host.JS, natsd.Lifecycle, gapBatch,
		jetstreamext.GetBatchSubject(p.fence), jetstreamext.GetBatchSeq(p.last+1))
	if err != nil {
		return 0, err
	}
	n := 0
	for m, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		e, err := decodeStored(m.Header, m.Data, events.Stated, m.Sequence, m.Time)
		if err != nil {
			return n, fmt.Errorf("%w: message %d: %w", errUnreadable, m.Sequence, err)
		}
		p.fold(t.kinds, e)
		n++
	}
	return n, nil
}

// decodeStored decodes a message of the stream and puts its place on it.
func decodeStored(h nats.Header, data []byte, kind events.Kind, sequence uint64, stored time.Time) (events.Event, error) {
	e, err := events.Decode(h, data)
	if err != nil {
		return events.Event{}, err
	}
	e.Kind, e.Sequence, e.Stored = kind, sequence, stored
	return e, nil
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

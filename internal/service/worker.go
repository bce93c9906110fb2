package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
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
	// troublesome is after how many tries it is told that a fact can not be published.
	troublesome = 20
)

// task is one event for one aggregate.
type task struct {
	cause *cause
	kind  *Aggregate
	key   string
	// poison says why the event can not be handled, when that is known before its worker meets it.
	poison *poisonError
}

// answer is the fact that a task asks for, and the state that its aggregate has by it.
type answer struct {
	fact  events.Event
	state any
}

// worker decides for the partitions that hash to it, one task at a time, in stream order.
type worker struct {
	term      *term
	tasks     chan task
	snapshots chan snapshotRequest
	swaps     chan *swapping
	stopped   chan struct{} // closed when run has returned
	open      atomic.Int32  // tasks given to it and not at their end; only the reader adds some

	mu         sync.Mutex // held by the worker, or by the reader where nothing is open
	partitions map[fold.PartitionID]*partition
	bus        *publisher // while it runs
	flight     *flight    // what the reader has begun; nil when nothing
}

func (w *worker) run(ctx context.Context) error {
	defer close(w.stopped)
	bus, err := newPublisher(w.term.host.Conn)
	if err != nil {
		return err
	}
	defer bus.close()
	w.mu.Lock()
	w.bus = bus
	w.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return nil
		case reply := <-bus.replies:
			err = w.land(ctx, reply)
		case <-bus.timer.C:
			err = w.lose(ctx)
		case r := <-w.snapshots:
			w.mu.Lock()
			w.snapshot(r)
			w.mu.Unlock()
		case s := <-w.swaps:
			if err = w.land(ctx, nil); err == nil {
				w.mu.Lock()
				w.swap(ctx, s)
				w.mu.Unlock()
			} else {
				s.done <- err
			}
		case t, more := <-w.tasks:
			if err = w.land(ctx, nil); err == nil && more {
				err = w.take(ctx, t)
			} else if err == nil {
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
}

// take brings a task to its end.
func (w *worker) take(ctx context.Context, t task) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.term.faults.at(stepReceived, t.cause.event); err != nil {
		return err
	}
	return w.handle(ctx, t, nil)
}

// handle brings one task to its end: a fact, nothing to say, or the dead letter. Begun is the fact when it is sent
// already. An error ends the term: the task stays unhandled and the next owner meets it again.
func (w *worker) handle(ctx context.Context, t task, begun *flight) error {
	p := w.partitionOf(t)
	err := w.settle(ctx, p, t, w.answer, begun)
	if poison, is := errors.AsType[*poisonError](err); is {
		err = w.giveUp(ctx, p, t, poison)
	}
	if err == nil {
		t.cause.open.Add(-1)
		w.open.Add(-1)
	}
	return err
}

// giveUp keeps what can not be handled as a dead letter, and refuses a claim.
func (w *worker) giveUp(ctx context.Context, p *partition, t task, reason *poisonError) error {
	if err := w.term.bury(ctx, t.cause.event, t.kind.kind, t.key, reason); err != nil {
		return err
	}
	// Whoever waits for an answer gets one. A fact that can not be read may be it.
	if t.cause.event.Kind != events.Claim || t.cause.event.Sequence <= p.stoppedAt {
		return nil
	}
	err := w.settle(ctx, p, t, func(p *partition, a aggregate, t task) (answer, bool, error) {
		return w.prepare(p, a, t, reason.refusal(*t.cause.event))
	}, nil)
	if poison, is := errors.AsType[*poisonError](err); is {
		w.term.log.Error("a dead letter's claim can not be refused either", append(logEvent(*t.cause.event), zap.Error(poison))...)
		return nil
	}
	return err
}

func (w *worker) partitionOf(t task) *partition {
	return w.partition(fold.PartitionID{Project: t.cause.event.Project, Partition: events.Partition(t.key)})
}

// partition finds or makes the fold of a partition that is this worker's.
func (w *worker) partition(id fold.PartitionID) *partition {
	p := w.partitions[id]
	if p == nil {
		p = newPartition(w.term.def.Phase, id)
		w.partitions[id] = p
	}
	return p
}

// settle has a task answered and publishes the answer, until it stands; the error is a
// *[poisonError] when it never will. Sent is the first answer when it is on its way already.
func (w *worker) settle(ctx context.Context, p *partition, t task, decide func(*partition, aggregate, task) (answer, bool, error), sent *flight) error {
	duplicates := 0
	for try := 0; ; try++ {
		if try > 0 { // whoever saves waits for no answer that may never stand
			select {
			case r := <-w.snapshots:
				w.snapshot(r)
			default:
			}
		}
		if sent == nil {
			if w.stands(p, t) {
				if try > 0 { // after all: the answer was lost, or another owner was faster
					return w.term.faults.at(stepPublished, t.cause.event)
				}
				return nil
			}
			if duplicates > strangers {
				return poisonous(fmt.Errorf("another message than the fact holds its id: the bus took it for a duplicate %d times", duplicates))
			}
			var err error
			if sent, err = w.send(p, t, decide); sent == nil {
				return err
			}
		}
		done, err := w.publish(ctx, sent, try, &duplicates)
		if done || err != nil {
			return err
		}
		sent = nil
	}
}

// stands reports whether an event is done for an aggregate: its fact, or that of a later one, is folded.
func (w *worker) stands(p *partition, t task) bool {
	return t.cause.event.Sequence <= p.peek(field{t.kind.kind, t.key}).watermark && !w.term.faults.broken(breakWatermark)
}

// answer asks the aggregate for the fact; false when there is nothing to say.
func (w *worker) answer(p *partition, a aggregate, t task) (answer, bool, error) {
	switch {
	case t.poison != nil:
		return answer{}, false, t.poison
	case p.stopped != nil:
		return answer{}, false, poisonous(fmt.Errorf("nothing is decided in partition %d of %s: %w", p.id.Partition, p.id.Project, p.stopped))
	case a.broken != nil:
		return answer{}, false, poisonous(fmt.Errorf("nothing is decided for %s/%s: %w", t.kind.kind, t.key, a.broken))
	}
	began := time.Now()
	fact, ok, err := w.decide(a.state, t)
	w.term.metrics.decide.Observe(time.Since(began).Seconds())
	if err != nil || !ok {
		return answer{}, false, err
	}
	return w.prepare(p, a, t, fact)
}

// prepare makes an event of a fact and folds it, before it is published: one that can not be folded
// would stop its aggregate for ever.
func (w *worker) prepare(p *partition, a aggregate, t task, fact events.Fact) (given answer, ok bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicked(fmt.Sprintf("stating the fact of %s/%s panics", t.kind.kind, t.key), r)
		}
	}()
	given.fact = w.term.state(fact, t)
	given.state, err = t.kind.next(a, p, given.fact)
	return given, err == nil, err
}

// decide asks the aggregate; a panic is an error. A claim always gets an answer.
func (w *worker) decide(state any, t task) (fact events.Fact, ok bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicked(fmt.Sprintf("%s/%s panics on %s", t.kind.kind, t.key, t.cause.event.Type.Short()), r)
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
		return events.Fact{}, false, poisonous(fmt.Errorf("%s/%s states a %T, which is no content type", t.kind.kind, t.key, fact.Content))
	}
	return fact, ok, nil
}

// unbelievable says why a principal may not claim such a thing; empty when it may.
func unbelievable(p events.Project, e events.Event) string {
	entry, _ := events.Lookup(e.Type)
	switch {
	case !entry.Claimable:
		return e.Type.Short() + " can not be claimed: only a service may say it"
	case entry.Open || p.Owner(e.Phase) == e.Principal, e.Phase == events.Deploy && p.Deploys(e.Principal): // the aggregate knows where
		return ""
	case p.Runs(e.Phase):
		return fmt.Sprintf("the %s phase of %s is done by Lemnis itself; name %q under owners to let it say %s", e.Phase, e.Project, e.Principal, e.Type.Short())
	default:
		return fmt.Sprintf("the %s phase of %s is owned by %q, not by %q", e.Phase, e.Project, p.Owner(e.Phase), e.Principal)
	}
}

// encoders are used again by whoever sends: a message's memory is still in the cache.
var encoders = sync.Pool{New: func() any { return new(events.Encoder) }}

// message renders a fact for the place behind the last one of its partition.
func (w *worker) message(enc *events.Encoder, p *partition, fact events.Event) (*nats.Msg, error) {
	msg, err := enc.Encode(fact)
	if err != nil {
		return nil, err
	}
	msg.Subject = fact.Subject(events.Stated)
	msg.Header[headerMsgID] = []string{"f/" + fact.ID}
	if !w.term.faults.broken(breakFence) {
		msg.Header[headerExpectLast] = []string{formatUint(p.expected())}
		msg.Header[headerExpectFilter] = []string{p.fence}
	}
	return msg, nil
}

// publish waits for the ack of a fact that is sent. False means that something else stood in its place: it is folded now,
// and the task has to be decided again. Duplicates counts the acks that point at a message which was there already.
func (w *worker) publish(ctx context.Context, sent *flight, try int, duplicates *int) (bool, error) {
	t, p, given, e := sent.task, sent.partition, sent.given, sent.given.fact
	ack, err := w.ack(ctx, sent)
	if ctx.Err() != nil {
		return true, ctx.Err()
	}
	_ = w.term.host.Noted(err) // what follows looks at it
	w.term.metrics.publish.Observe(time.Since(sent.began).Seconds())
	if err == nil && !ack.Duplicate {
		if err := w.term.faults.at(stepPublished, t.cause.event); err != nil {
			return true, err
		}
		e.Kind, e.Sequence = events.Stated, ack.Sequence
		if w.term.comesBack(e.Type) {
			w.term.own.put(e)
		}
		p.put(e, given.state)
		w.term.metrics.decided.Add(1)
		if w.term.host.Trace != nil {
			w.term.host.Trace.Fact(t.cause.event, e, sent.began)
		}
		return true, w.term.faults.at(stepFolded, t.cause.event)
	}
	if err == nil {
		*duplicates++
	}
	w.term.metrics.notStated(err)
	last := p.last
	if err := w.term.catchUp(ctx, p); err != nil {
		return true, err
	}
	if conflict(err) && p.last == last && last > 0 {
		w.term.lookForPurge(ctx, p)
	}
	if try > 0 && try%troublesome == 0 {
		w.term.log.Warn("a fact can not be published; trying again", append(logEvent(e), zap.Int("tries", try), zap.String("fence", p.fence),
			zap.Uint64("expected", p.expected()), zap.Bool("duplicate", ack.Duplicate), zap.Error(err))...)
	}
	if try > 0 { // nothing new to see yet: give the stream time
		wait(ctx, min(time.Duration(try)*5*time.Millisecond, 200*time.Millisecond))
	}
	if err != nil && tooLarge(err) {
		return true, poisonous(fmt.Errorf("its fact can not be published: %w", err))
	}
	var apiErr *jetstream.APIError
	if err != nil && errors.As(err, &apiErr) && apiErr.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence && !transient(apiErr) {
		w.term.log.Warn("publishing is refused; trying again", append(logEvent(e), zap.Error(err))...)
		wait(ctx, time.Second)
	}
	return false, ctx.Err()
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

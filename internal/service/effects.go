package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// work runs an effect's workers until ctx ends. They share the facts that ask for it, with the
// workers of other processes, through one durable consumer.
func work(ctx context.Context, h Host, phase events.Phase, e Effect, project func(string) events.Project) error {
	var acked progress
	var slots sync.WaitGroup
	slots.Go(func() {
		for ctx.Err() == nil {
			if c, err := h.JS.Consumer(ctx, natsd.Lifecycle, effectName(phase, e)); err == nil {
				acked.note(c)
				e.metrics.note(c.CachedInfo())
			}
			wait(ctx, h.Timing.AckWait)
		}
	})
	for range max(e.Parallel, 1) {
		slots.Go(func() {
			for ctx.Err() == nil {
				consumer, err := effectConsumer(ctx, h, phase, e, &acked)
				if err != nil {
					return // drained
				}
				err = Take(ctx, consumer, func(m jetstream.Msg) { attempt(ctx, h, phase, e, m, project) })
				switch {
				case ctx.Err() != nil:
				case errors.Is(err, jetstream.ErrNoHeartbeat) || errors.Is(err, jetstream.ErrConsumerDeleted):
					h.Log.Warn("an effect's consumer is gone or away; looking for it", zap.String("effect", e.Name), zap.Error(err))
				default:
					h.Log.Warn("waiting for work failed; trying again", zap.String("effect", e.Name), zap.Error(err))
					wait(ctx, time.Second)
				}
			}
		})
	}
	slots.Wait()
	return nil
}

// progress is what a process knows of an effect's consumer, in case that it has to be made again:
// everything at or below the mark is done.
type progress struct {
	mu   sync.Mutex
	seen bool
	done uint64
}

func (p *progress) note(c jetstream.Consumer) {
	info := c.CachedInfo()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = true
	p.done = max(p.done, info.AckFloor.Stream)
	if start := info.Config.OptStartSeq; start > 0 {
		p.done = max(p.done, start-1)
	}
}

func (p *progress) get() (done uint64, seen bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done, p.seen
}

// workPull is how long one request for work waits on the bus; twice no sign of life in half of it
// means that the consumer is gone.
const workPull = 5 * time.Second

// Take hands messages to each, one after the other, until ctx ends or the consumer fails. It asks
// for one at a time, so that none waits behind another's work; one that arrives while it stops is
// given back for another worker to begin at once.
func Take(ctx context.Context, consumer jetstream.Consumer, each func(jetstream.Msg)) error {
	messages, err := consumer.Messages(jetstream.PullMaxMessages(1), jetstream.PullExpiry(workPull))
	if err != nil {
		return err
	}
	defer giveBack(messages)
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		each(m)
	}
}

// giveBack ends the reading, and lets a message that is on its way here come to the next reader at once.
func giveBack(messages jetstream.MessagesContext) {
	messages.Drain()
	for {
		m, err := messages.Next(jetstream.NextMaxWait(time.Second))
		if err != nil {
			messages.Stop()
			return
		}
		_ = m.Nak() // failing, it comes when its time is up
	}
}

// effectPrefix begins the names of effects' consumers.
const effectPrefix = "effect-"

func effectName(phase events.Phase, e Effect) string {
	return fmt.Sprintf("%s%s-%s", effectPrefix, phase, e.Name)
}

// effectConsumer finds the durable consumer of an effect, or makes it: behind what this process
// knows to be done, when it has seen it before; else behind the phase's floor, since what happened
// before an effect was introduced asked nobody for it. A fresh installation has no floor, so that an
// effect meets all of its facts; it is made before its process contends for the phase, so that no
// fact which asks for it can stand at or below the floor.
func effectConsumer(ctx context.Context, h Host, phase events.Phase, e Effect, acked *progress) (jetstream.Consumer, error) {
	for backoff := 100 * time.Millisecond; ; backoff = min(2*backoff, 5*time.Second) {
		c, err := ensureEffectConsumer(ctx, h, phase, e, acked)
		if err == nil {
			acked.note(c)
		}
		if err == nil || ctx.Err() != nil {
			return c, ctx.Err()
		}
		h.Log.Warn("an effect's consumer can not be made; trying again", zap.String("effect", e.Name), zap.Error(err))
		wait(ctx, backoff)
	}
}

func ensureEffectConsumer(ctx context.Context, h Host, phase events.Phase, e Effect, acked *progress) (jetstream.Consumer, error) {
	want := jetstream.ConsumerConfig{
		Durable:   effectName(phase, e),
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: h.Timing.AckWait, MaxDeliver: -1, Replicas: h.Replicas,
		MaxAckPending: -1, // what waits for one that is away shall hold up no other; workers ask for no more than they do at once
	}
	for _, t := range e.On {
		want.FilterSubjects = append(want.FilterSubjects, events.Filter(events.Stated, "", phase, t))
	}
	want.FilterSubjects = append(want.FilterSubjects, resentFilter(phase))
	switch there, err := h.JS.Consumer(ctx, natsd.Lifecycle, want.Durable); {
	case err == nil: // where it began can not be changed
		have := there.CachedInfo().Config
		if sameWork(have, want) { // an update is agreed on by the whole cluster, and all workers look when a server dies
			return there, nil
		}
		want.DeliverPolicy, want.OptStartSeq = have.DeliverPolicy, have.OptStartSeq
		return h.JS.UpdateConsumer(ctx, natsd.Lifecycle, want)
	case !errors.Is(err, jetstream.ErrConsumerNotFound):
		return nil, err
	}
	done, seen := acked.get()
	if !seen {
		var err error
		if done, err = floorOf(ctx, h, phase); err != nil {
			return nil, err
		}
	}
	want.DeliverPolicy, want.OptStartSeq = jetstream.DeliverByStartSequencePolicy, done+1
	c, err := h.JS.CreateConsumer(ctx, natsd.Lifecycle, want)
	if errors.Is(err, jetstream.ErrConsumerExists) { // another process was faster, from another floor
		return h.JS.Consumer(ctx, natsd.Lifecycle, want.Durable)
	}
	return c, err
}

// sameWork reports whether a consumer hands out what is wanted, as it is wanted.
func sameWork(have, want jetstream.ConsumerConfig) bool {
	filters := have.FilterSubjects
	if have.FilterSubject != "" {
		filters = []string{have.FilterSubject}
	}
	return slices.Equal(filters, want.FilterSubjects) && have.AckPolicy == want.AckPolicy && have.AckWait == want.AckWait &&
		have.MaxDeliver == want.MaxDeliver && have.MaxAckPending == want.MaxAckPending && have.Replicas == want.Replicas
}

// floorOf is the sequence below which the owners of a phase have handled everything, 0 before the first.
func floorOf(ctx context.Context, h Host, phase events.Phase) (uint64, error) {
	entry, err := natsd.Latest(ctx, h.JS, leaseBucket, string(phase))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the floor of %s: %w", phase, err)
	}
	var held holding
	if err := json.Unmarshal(entry.Value, &held); err != nil {
		return 0, fmt.Errorf("lease %s is unreadable: %w", phase, err)
	}
	return held.Floor, nil
}

// attempt does the work that one fact asks for, and tells the bus the verdict.
func attempt(ctx context.Context, h Host, phase events.Phase, e Effect, m jetstream.Msg, project func(string) events.Project) {
	meta, err := m.Metadata()
	if err != nil {
		h.Log.Error("a message without metadata", zap.Error(err))
		return
	}
	s := Message{Msg: m, Kind: events.Kind(token(m.Subject(), 0)), Sequence: meta.Sequence.Stream, Stored: meta.Timestamp}
	fact, before, asked, err := wanted(ctx, h, e, s)
	tries := before + meta.NumDelivered
	switch {
	case ctx.Err() != nil:
		verdict(h, e, m, m.Nak())
		return
	case err != nil:
		verdict(h, e, m, bury(ctx, h, phase, e, s, tries, err))
		return
	case !asked:
		verdict(h, e, m, m.Ack())
		return
	}
	out := resulter{host: h, phase: phase, source: e.Name}
	try := h.attempt(meta.NumDelivered)
	if s.Kind == events.Claim { // work that was given up: later than all that was tried for the fact, and for earlier claims
		try = h.attemptOfClaim(s.Sequence, meta.NumDelivered)
	}
	job := NewJob(fact, project(fact.Project), try, func(ctx context.Context, r Report) error {
		if r.Key == "" {
			r.Key = fact.Key
		}
		typ := events.TypeOf(r.Content)
		o := outcome{
			Report: r, project: fact.Project, chain: fact.Chain, cause: fact.ID, attempt: try,
			id: events.FactID(h.Identity(fact.Sequence), fact.Sequence, fmt.Sprintf("%s#%d#%s", e.Name, try, r.Once), fact.Project, r.Key, typ),
		}
		_, err := out.publish(ctx, o)
		return err
	})
	job.Tries = meta.NumDelivered
	stop := keepAlive(ctx, m, h.Timing.AckWait/3)
	started := time.Now()
	e.metrics.begun(meta.NumDelivered)
	err = protect(func() error { return e.Do(ctx, job) })
	stop()
	h.Log.Debug("effect", append(logEvent(fact), zap.String("effect", e.Name), zap.Uint64("attempt", job.Attempt),
		zap.Duration("took", time.Since(started)), zap.Error(err))...)
	outcome := outcomeOf(ctx, err)
	e.metrics.ended(started, outcome)
	h.Trace.Attempt(fact, e.Name, try, started, outcome, err)
	switch outcome {
	case effectDone:
		verdict(h, e, m, m.Ack())
	case effectRejected:
		verdict(h, e, m, bury(ctx, h, phase, e, s, tries, err))
	case effectInterrupted: // another worker may begin at once
		verdict(h, e, m, m.Nak())
	default:
		delay := backoff(h.Timing, meta.NumDelivered)
		if d, ok := events.RetryAfter(err); ok {
			delay = d
		}
		h.Log.Warn("an effect failed; it is tried again", append(logEvent(fact), zap.String("effect", e.Name),
			zap.Uint64("attempt", job.Attempt), zap.Duration("after", delay), zap.Error(err))...)
		verdict(h, e, m, m.NakWithDelay(delay))
	}
}

// outcomeOf is what became of an attempt that ended with this error.
func outcomeOf(ctx context.Context, err error) string {
	switch {
	case err == nil:
		return effectDone
	case events.Rejected(err):
		return effectRejected
	case ctx.Err() != nil: // stopped in the middle
		return effectInterrupted
	}
	return effectFailed
}

// bury puts a fact whose effect can never be done into the dead letter, then ends its delivery.
func bury(ctx context.Context, h Host, phase events.Phase, e Effect, s Message, tries uint64, reason error) error {
	err := buryLetter(ctx, h, letter{
		header: s.Headers(), data: s.Data(), subject: s.Subject(), sequence: s.Sequence, project: token(s.Subject(), 1),
		phase: phase, aggregate: ofEffect + e.Name, tries: tries, reason: reason,
	})
	if err != nil {
		return err
	}
	e.metrics.buried()
	return s.Term()
}

// verdict logs one that did not reach the bus: the fact comes again, as after a crash.
func verdict(h Host, e Effect, m jetstream.Msg, err error) {
	if err != nil {
		h.Log.Warn("a verdict did not reach the bus; the work will come again",
			zap.String("effect", e.Name), zap.String("subject", m.Subject()), zap.Error(err))
	}
}

func backoff(t Timing, delivered uint64) time.Duration {
	d := t.BackoffMin
	for i := uint64(1); i < delivered && d < t.BackoffMax; i++ {
		d *= 2
	}
	return min(d, t.BackoffMax)
}

// keepAlive tells the bus that the work is going on; the returned func stops that.
func keepAlive(ctx context.Context, m jetstream.Msg, every time.Duration) func() {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = m.InProgress() // a lost one is made up for by the next
			}
		}
	})
	return func() { cancel(); done.Wait() }
}

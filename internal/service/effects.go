package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// work runs an effect's workers until ctx ends. They share the facts that ask for it, with the
// workers of other processes, through one durable consumer.
func work(ctx context.Context, h Host, phase events.Phase, e Effect, project func(string) events.Project) error {
	consumer, err := effectConsumer(ctx, h, phase, e)
	if err != nil {
		return err
	}
	slots, ctx := errgroup.WithContext(ctx)
	for range max(e.Parallel, 1) {
		slots.Go(func() error {
			for ctx.Err() == nil {
				m, err := consumer.Next(jetstream.FetchContext(ctx))
				switch {
				case err == nil:
					attempt(ctx, h, phase, e, m, project)
				case ctx.Err() != nil:
					return nil //nolint:nilerr // drained
				case errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrConsumerDeleted):
					return fmt.Errorf("effect %s: %w", e.Name, err)
				case !idle(err):
					h.Log.Warn("waiting for work failed; trying again", zap.String("effect", e.Name), zap.Error(err))
					wait(ctx, time.Second)
				}
			}
			return nil
		})
	}
	return slots.Wait()
}

// idle tells an empty wait from trouble.
func idle(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, jetstream.ErrNoMessages) || strings.Contains(err.Error(), "timeout")
}

func effectConsumer(ctx context.Context, h Host, phase events.Phase, e Effect) (jetstream.Consumer, error) {
	filters := make([]string, len(e.On))
	for i, t := range e.On {
		filters[i] = events.Filter(events.Stated, "", phase, t)
	}
	for backoff := 100 * time.Millisecond; ; backoff = min(2*backoff, 5*time.Second) {
		c, err := h.JS.CreateOrUpdateConsumer(ctx, natsd.Lifecycle, jetstream.ConsumerConfig{
			Durable: fmt.Sprintf("effect-%s-%s", phase, e.Name), FilterSubjects: filters,
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: h.Timing.AckWait, MaxDeliver: -1,
			DeliverPolicy: jetstream.DeliverAllPolicy, Replicas: h.Replicas,
		})
		if err == nil || ctx.Err() != nil {
			return c, ctx.Err()
		}
		h.Log.Warn("an effect's consumer can not be made; trying again", zap.String("effect", e.Name), zap.Error(err))
		wait(ctx, backoff)
	}
}

// attempt does the work that one fact asks for, and tells the bus the verdict.
func attempt(ctx context.Context, h Host, phase events.Phase, e Effect, m jetstream.Msg, project func(string) events.Project) {
	meta, err := m.Metadata()
	if err != nil {
		h.Log.Error("a message without metadata", zap.Error(err))
		return
	}
	s := Message{Msg: m, Kind: events.Stated, Sequence: meta.Sequence.Stream, Stored: meta.Timestamp}
	fact, err := s.Event()
	if err != nil {
		settle(h, e, m, bury(ctx, h, phase, e, s, meta.NumDelivered, err))
		return
	}
	out := resulter{host: h, phase: phase, source: e.Name}
	job := NewJob(fact, project(fact.Project), meta.NumDelivered, func(ctx context.Context, r Report) error {
		if r.Key == "" {
			r.Key = fact.Key
		}
		typ := events.TypeOf(r.Content)
		o := outcome{
			Report: r, project: fact.Project, chain: fact.Chain, cause: fact.ID, attempt: meta.NumDelivered, trace: fact.TraceParent,
			id: events.FactID(h.Stream, fact.Sequence, fmt.Sprintf("%s#%d#%s", e.Name, meta.NumDelivered, r.Once), fact.Project, r.Key, typ),
		}
		_, err := out.publish(ctx, o)
		return err
	})
	stop := keepAlive(ctx, m, h.Timing.AckWait/3)
	started := h.Clock.Now()
	err = protect(func() error { return e.Do(ctx, job) })
	stop()
	h.Log.Debug("effect", append(logEvent(fact), zap.String("effect", e.Name), zap.Uint64("attempt", job.Attempt),
		zap.Duration("took", h.Clock.Now().Sub(started)), zap.Error(err))...)
	switch {
	case err == nil:
		settle(h, e, m, m.Ack())
	case events.Rejected(err):
		settle(h, e, m, bury(ctx, h, phase, e, s, meta.NumDelivered, err))
	case ctx.Err() != nil: // stopped in the middle: another worker may begin at once
		settle(h, e, m, m.Nak())
	default:
		delay := backoff(h.Timing, meta.NumDelivered)
		if d, ok := events.RetryAfter(err); ok {
			delay = d
		}
		h.Log.Warn("an effect failed; it is tried again", append(logEvent(fact), zap.String("effect", e.Name),
			zap.Uint64("attempt", job.Attempt), zap.Duration("after", delay), zap.Error(err))...)
		settle(h, e, m, m.NakWithDelay(delay))
	}
}

// bury puts a fact whose effect can never be done into the dead letter, then ends its delivery.
func bury(ctx context.Context, h Host, phase events.Phase, e Effect, s Message, tries uint64, reason error) error {
	err := buryLetter(ctx, h, letter{
		header: s.Headers(), data: s.Data(), subject: s.Subject(), sequence: s.Sequence, project: token(s.Subject(), 1),
		phase: phase, aggregate: "effect/" + e.Name, tries: tries, reason: reason,
	})
	if err != nil {
		return err
	}
	return s.Term()
}

// settle logs a verdict that did not reach the bus: the fact comes again, as after a crash.
func settle(h Host, e Effect, m jetstream.Msg, err error) {
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

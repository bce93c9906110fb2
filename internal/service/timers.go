package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// Subjects of timers, `timers.<set|fired>.<phase>.<id of the fact that sets it>`.
func timerSubject(state string, phase events.Phase, fact string) string {
	return "timers." + state + "." + string(phase) + "." + fact
}

// setTimers is the effect that sets a deadline for each fact that names one.
func setTimers(h Host, types []events.Type) Effect {
	return Effect{Name: "timers", On: types, Parallel: 4, Do: func(ctx context.Context, job *Job) error {
		e := job.Event
		if e.Deadline.IsZero() {
			return nil
		}
		fires := deadlineReached(h, e)
		if job.Attempt > 1 { // an earlier attempt may have set it, and the bus forgets message ids
			if set, err := timerWasSet(ctx, h, e, fires); err != nil || set {
				return err
			}
		}
		msg := &nats.Msg{Subject: timerSubject("set", e.Phase, e.ID), Header: nats.Header{
			"Nats-Schedule":        {"@at " + e.Deadline.UTC().Format(time.RFC3339)},
			"Nats-Schedule-Target": {timerSubject("fired", e.Phase, e.ID)},
		}}
		fired, err := events.Encode(fires)
		if err != nil {
			return events.Reject(err)
		}
		for name, v := range fired.Header {
			msg.Header[name] = v
		}
		msg.Data = fired.Data
		msg.Header[headerMsgID] = []string{"t/" + e.ID}
		if _, err := h.JS.PublishMsg(ctx, msg); err != nil {
			h.metrics.notPublished()
			return fmt.Errorf("set the timer of %s: %w", e.Type.Short(), err)
		}
		return nil
	}}
}

// deadlineReached is the result that the timer of a fact will be.
func deadlineReached(h Host, e events.Event) events.Event {
	c := events.DeadlineReached{Fact: e.ID, FactType: e.Type, Aggregate: e.Aggregate, Key: e.Key, Due: e.Deadline.UTC().Format(time.RFC3339)}
	typ := events.TypeOf(c)
	id := events.FactID(h.Identity(e.Sequence), e.Sequence, "timer", e.Project, e.Key, typ)
	return events.Event{
		ID:     id,
		Source: "/lemnis/" + string(e.Phase) + "/timer", Type: typ, Time: e.Deadline, Project: e.Project, Phase: e.Phase,
		Key: e.Key, Cause: e.ID, Chain: e.Chain, TraceParent: events.TraceContext(e.Project, e.Chain, id), SubjectID: e.Key, Content: c,
		Links: []events.Link{{Type: events.Path, Context: e.ID}},
	}
}

// timerWasSet looks for the timer of a fact where it goes: pending, fired, moved to the results.
func timerWasSet(ctx context.Context, h Host, fact, fires events.Event) (bool, error) {
	timers, err := h.JS.Stream(ctx, natsd.Timers)
	if err != nil {
		return false, fmt.Errorf("look for the timer of %s: %w", fact.Type.Short(), err)
	}
	for _, state := range []string{"set", "fired"} {
		_, err := timers.GetLastMsgForSubject(ctx, timerSubject(state, fact.Phase, fact.ID))
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, jetstream.ErrMsgNotFound) {
			return false, fmt.Errorf("look for the timer of %s: %w", fact.Type.Short(), err)
		}
	}
	return resultStands(ctx, h, fires, jetstreamext.GetBatchSeq(fact.Sequence+1))
}

// resultStands looks for a result on the stream, from a place on that it can not stand before.
func resultStands(ctx context.Context, h Host, e events.Event, from jetstreamext.GetBatchOpt) (bool, error) {
	subject := fmt.Sprintf("%s.%s.%s.%s.%s.%d", events.Result, e.Project, e.Phase, e.Type.Subject(), e.Type.Predicate(), events.Partition(e.Key))
	for {
		batch, cancel := context.WithTimeout(ctx, publishTimeout)
		msgs, err := jetstreamext.GetBatch(batch, h.JS, natsd.Lifecycle, gapBatch, jetstreamext.GetBatchSubject(subject), from)
		last := uint64(0)
		if err == nil {
			for m, failed := range msgs {
				if errors.Is(failed, jetstreamext.ErrNoMessages) {
					break
				}
				if err = failed; err != nil {
					break
				}
				if m.Header.Get(headerMsgID) == resultMsgID(e.ID) {
					cancel()
					return true, nil
				}
				last = m.Sequence
			}
		}
		cancel()
		if err != nil || last == 0 {
			return false, err
		}
		from = jetstreamext.GetBatchSeq(last + 1)
	}
}

// moveTimers moves firings to the results of the phase, each before its ack, until ctx ends.
func moveTimers(ctx context.Context, h Host, phase events.Phase) error {
	for ctx.Err() == nil {
		c, err := h.JS.CreateOrUpdateConsumer(ctx, natsd.Timers, jetstream.ConsumerConfig{
			Durable: "fired-" + string(phase), FilterSubject: timerSubject("fired", phase, "*"),
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: h.Timing.AckWait, MaxDeliver: -1, Replicas: h.Replicas,
		})
		if err == nil {
			err = Take(ctx, c, func(m jetstream.Msg) { moveTimer(ctx, h, phase, m) })
		}
		if ctx.Err() == nil && !errors.Is(err, jetstream.ErrNoHeartbeat) {
			h.Log.Warn("waiting for timers failed; trying again", zap.Error(err))
			wait(ctx, time.Second)
		}
	}
	return nil
}

func moveTimer(ctx context.Context, h Host, phase events.Phase, m jetstream.Msg) {
	e, err := events.Decode(m.Headers(), m.Data())
	if err != nil {
		if buryTimer(ctx, h, phase, m, err) == nil {
			_ = m.Term()
		}
		return
	}
	if err := publishFiring(ctx, h, m, e); err != nil {
		h.metrics.notPublished()
		h.Log.Warn("a timer could not be moved; it comes again", zap.Error(err))
		_ = m.NakWithDelay(time.Second)
		return
	}
	_ = m.Ack() // a lost ack brings it again, and it is found to stand
}

// clocks bounds how far the clocks of a cluster's servers are apart.
const clocks = time.Minute

// buryTimer keeps a timer that can not be read: a later version may know what it was.
func buryTimer(ctx context.Context, h Host, phase events.Phase, m jetstream.Msg, reason error) error {
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	return buryLetter(ctx, h, letter{
		header: m.Headers(), data: m.Data(), subject: m.Subject(), sequence: meta.Sequence.Stream, phase: phase, aggregate: "timer", reason: reason,
	})
}

func publishFiring(ctx context.Context, h Host, m jetstream.Msg, e events.Event) error {
	if meta, err := m.Metadata(); err == nil && h.attempt(meta.NumDelivered) > 1 { // it may have been moved before
		stands, err := resultStands(ctx, h, e, jetstreamext.GetBatchStartTime(e.Time.Add(-clocks)))
		if err != nil || stands {
			return err
		}
	}
	moved := events.EncodeWith(e, m.Data())
	moved.Subject = e.Subject(events.Result)
	moved.Header[headerMsgID] = []string{resultMsgID(e.ID)}
	began := time.Now()
	ack, err := h.JS.PublishMsg(ctx, moved)
	if err == nil && !ack.Duplicate {
		h.Trace.Result(e, ack.Sequence, began)
	}
	return err
}

package service

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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
		msg := &nats.Msg{Subject: timerSubject("set", e.Phase, e.ID), Header: nats.Header{
			"Nats-Schedule":        {"@at " + e.Deadline.UTC().Format(time.RFC3339)},
			"Nats-Schedule-Target": {timerSubject("fired", e.Phase, e.ID)},
		}}
		fired, err := events.Encode(deadlineReached(h, e))
		if err != nil {
			return events.Reject(err)
		}
		for name, v := range fired.Header {
			msg.Header[name] = v
		}
		msg.Data = fired.Data
		msg.Header[headerMsgID] = []string{"t/" + e.ID}
		if _, err := h.JS.PublishMsg(ctx, msg); err != nil {
			return fmt.Errorf("set the timer of %s: %w", e.Type.Short(), err)
		}
		return nil
	}}
}

// deadlineReached is the result that the timer of a fact will be.
func deadlineReached(h Host, e events.Event) events.Event {
	c := events.DeadlineReached{Fact: e.ID, FactType: e.Type, Aggregate: e.Aggregate, Key: e.Key, Due: e.Deadline.UTC().Format(time.RFC3339)}
	typ := events.TypeOf(c)
	return events.Event{
		ID:     events.FactID(h.Stream, e.Sequence, "timer", e.Project, e.Key, typ),
		Source: "/lemnis/" + string(e.Phase) + "/timer", Type: typ, Time: e.Deadline, Project: e.Project, Phase: e.Phase,
		Key: e.Key, Cause: e.ID, Chain: e.Chain, TraceParent: e.TraceParent, SubjectID: e.Key, Content: c,
		Links: []events.Link{{Type: events.Path, Context: e.ID}},
	}
}

// moveTimers moves firings to the results of the phase, each before its ack, until ctx ends.
func moveTimers(ctx context.Context, h Host, phase events.Phase) error {
	var c jetstream.Consumer
	for c == nil {
		var err error
		c, err = h.JS.CreateOrUpdateConsumer(ctx, natsd.Timers, jetstream.ConsumerConfig{
			Durable: "fired-" + string(phase), FilterSubject: timerSubject("fired", phase, "*"),
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: h.Timing.AckWait, MaxDeliver: -1, Replicas: h.Replicas,
		})
		if ctx.Err() != nil {
			return nil //nolint:nilerr // drained
		}
		if err != nil {
			h.Log.Warn("the consumer of timers can not be made; trying again", zap.Error(err))
			wait(ctx, time.Second)
		}
	}
	for ctx.Err() == nil {
		m, err := c.Next(jetstream.FetchContext(ctx))
		if err != nil {
			if ctx.Err() == nil && !idle(err) {
				h.Log.Warn("waiting for timers failed; trying again", zap.Error(err))
				wait(ctx, time.Second)
			}
			continue
		}
		e, err := events.Decode(m.Headers(), m.Data())
		if err != nil {
			h.Log.Error("a timer that can not be read is dropped", zap.String("subject", m.Subject()), zap.Error(err))
			_ = m.Term()
			continue
		}
		moved := events.EncodeWith(e, m.Data())
		moved.Subject = e.Subject(events.Result)
		moved.Header[headerMsgID] = []string{"r/" + e.ID}
		if _, err := h.JS.PublishMsg(ctx, moved); err != nil {
			h.Log.Warn("a timer could not be moved; it comes again", zap.Error(err))
			_ = m.NakWithDelay(time.Second)
			continue
		}
		_ = m.Ack() // a lost ack brings it again, under the same message id
	}
	return nil
}

package service

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// noting is an effect that tells which facts it met.
func noting(name string, met chan<- string) Effect {
	return Effect{Name: name, On: []events.Type{events.TypeOf(events.TicketCreated{})}, Do: func(_ context.Context, j *Job) error {
		met <- j.Event.Key
		return nil
	}}
}

func expectMet(t *testing.T, met <-chan string, want string) {
	t.Helper()
	select {
	case got := <-met:
		if got != want {
			t.Errorf("the effect met %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("the effect did not meet %q", want)
	}
}

// On a fresh installation an effect meets what was claimed before it was there; one that a later
// version brings asks nobody to do again what is long done.
func TestANewEffectBeginsWhereThePhaseStands(t *testing.T) {
	b := newBus(t)
	mustClaim(t, b, "a", ticket("a"), "a")
	def, met := proofDefinition(), make(chan string, 10)
	def.Effects = []Effect{noting("first", met)}
	_, stop := running(t, b.host, def)
	expectMet(t, met, "a")
	mustClaim(t, b, "b", ticket("b"), "b")
	expectMet(t, met, "b")
	// Behind everything that b brings with it, so that the floor stands above b's fact.
	awaitEvent(t, b.js, "the last of b", "lifecycle.shop.plan.*.*.*", func(e events.Event) bool {
		c, ok := e.Content.(events.BacklogRanked)
		return ok && c.Places[0].Item == "b"
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	later := make(chan string, 10)
	def.Effects = append(def.Effects, noting("later", later))
	_, _ = running(t, b.host, def)
	mustClaim(t, b, "c", ticket("c"), "c")
	expectMet(t, later, "c")
	expectMet(t, met, "c")
}

func TestAnEffectSurvivesTheLossOfItsConsumer(t *testing.T) {
	b := newBus(t)
	def, met := proofDefinition(), make(chan string, 10)
	def.Effects = []Effect{noting("note", met)}
	_, _ = running(t, b.host, def)
	mustClaim(t, b, "a", ticket("a"), "a")
	expectMet(t, met, "a")
	if err := b.js.DeleteConsumer(t.Context(), natsd.Lifecycle, effectName(events.Plan, def.Effects[0])); err != nil {
		t.Fatal(err)
	}
	mustClaim(t, b, "b", ticket("b"), "b")
	for {
		select {
		case key := <-met: // what this process did not yet know to be done comes again
			if key == "b" {
				return
			}
		case <-time.After(patience):
			t.Fatal("the effect is dead")
		}
	}
}

// A message that reaches a worker while it stops goes to the next one at once, not after AckWait.
func TestStoppingHoldsNoWorkBack(t *testing.T) {
	b := newBus(t)
	c, err := b.js.CreateConsumer(t.Context(), natsd.DeadLetter, jetstream.ConsumerConfig{
		Durable: "work", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	each := func(m jetstream.Msg) {
		_ = m.Ack()
		got <- string(m.Data())
	}
	for i := range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = Take(ctx, c, each) }()
		go cancel()
		if _, err := b.js.PublishMsg(t.Context(), &nats.Msg{Subject: "deadletter.x", Data: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
		<-ended
		ctx, cancel = context.WithCancel(t.Context())
		ended = make(chan struct{})
		go func() { defer close(ended); _ = Take(ctx, c, each) }()
		expectMet(t, got, fmt.Sprint(i))
		cancel()
		<-ended
	}
}

// shortMemory makes the bus forget message ids at once, as after two minutes, and waits until it has.
func shortMemory(t *testing.T, b *bus) (forgotten func()) {
	t.Helper()
	for _, name := range []string{natsd.Timers, natsd.Lifecycle} {
		s, err := b.js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		config := s.CachedInfo().Config
		config.Duplicates = 100 * time.Millisecond
		if _, err := b.js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		t.Helper()
		for _, subject := range []string{"timers.fired.probe.x", "results.probe.plan.ticket.created.x"} {
			for first := true; ; first = false {
				ack, err := b.js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: nats.Header{headerMsgID: {"probe"}}})
				if err != nil {
					t.Fatal(err)
				}
				if !ack.Duplicate && !first {
					break
				}
			}
		}
	}
}

// A process that is down for long between setting a timer, or moving its firing, and the ack does
// it again when it is back; the bus has forgotten the message ids by then.
func TestTimersFireOnceHoweverLongAProcessIsDown(t *testing.T) {
	b := newBus(t)
	forgotten := shortMemory(t, b)
	_, stop := running(t, b.host, timerDefinition())
	mustClaim(t, b, "a", ticket("a"), "a")
	created := awaitEvent(t, b.js, "the fact with a deadline", "lifecycle.shop.plan.ticket.created.*", func(events.Event) bool { return true })
	awaitEvent(t, b.js, "the deadline's fact", "lifecycle.shop.plan.ticket.closed.*", func(events.Event) bool { return true })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	forgotten()

	set := setTimers(b.host, []events.Type{created.Type})
	if err := set.Do(t.Context(), NewJob(created, events.DefaultProject("shop"), 2, nil)); err != nil {
		t.Fatal(err)
	}
	timers, err := b.js.Stream(t.Context(), natsd.Timers)
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"set", "fired"} {
		if _, err := timers.GetLastMsgForSubject(t.Context(), timerSubject(state, events.Plan, created.ID)); err == nil {
			t.Errorf("the timer is %s again", state)
		}
	}

	// Its firing, as it is when the move was not acked.
	fires := deadlineReached(b.host, created)
	msg, err := events.Encode(fires)
	if err != nil {
		t.Fatal(err)
	}
	msg.Subject = timerSubject("fired", events.Plan, created.ID)
	if _, err := b.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	c, err := b.js.Consumer(t.Context(), natsd.Timers, "fired-plan")
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Next(jetstream.FetchMaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Nak(); err != nil {
		t.Fatal(err)
	}
	if m, err = c.Next(jetstream.FetchMaxWait(patience)); err != nil {
		t.Fatal(err)
	}
	moveTimer(t.Context(), b.host, events.Plan, m)
	if n := count(t, b, "results.shop.plan.lemnis-deadline.reached.*"); n != 1 {
		t.Errorf("the firing stands %d times", n)
	}
}

// count counts the messages that a filter lets through.
func count(t *testing.T, b *bus, filter string) uint64 {
	t.Helper()
	n, err := pendingFor(t.Context(), b.js, []string{filter}, 1)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// As many facts as the bus delivers by default without a verdict may wait for what is away: the next one is met all the same.
func TestWhatWaitsHoldsUpNothing(t *testing.T) {
	b := newBus(t)
	const waiting = 1000
	met := make(chan string, 1)
	_, _ = running(t, b.host, workDefinition(func(_ context.Context, j *Job) error {
		if j.Event.Key == "last" {
			met <- j.Event.Key
			return nil
		}
		return events.Retry(time.Hour, errors.New("the other side is away"))
	}))
	for i := range waiting {
		id := fmt.Sprintf("waits-%d", i)
		mustClaim(t, b, id, ticket(id), id)
	}
	mustClaim(t, b, "last", ticket("last"), "last")
	expectMet(t, met, "last")
}

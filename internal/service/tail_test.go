package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// A consumer can live and hand out nothing, as one does that stands on a copy of the stream which does not move; here it is
// paused. The reader notices, and goes on behind what it has seen, with another one.
func TestAReaderThatIsGivenNothingReadsAnew(t *testing.T) {
	b := newBus(t)
	ctx, next, end := readClaims(t, b)
	mustClaim(t, b, "a", ticket("a"), "a")
	first := next()
	stream, err := b.js.Stream(ctx, natsd.Lifecycle)
	if err != nil {
		t.Fatal(err)
	}
	paused := 0
	for c := range stream.ListConsumers(ctx).Info() {
		if _, err := stream.PauseConsumer(ctx, c.Name, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		paused++
	}
	if paused != 1 {
		t.Fatalf("%d readers", paused)
	}
	mustClaim(t, b, "b", ticket("b"), "b")
	if second := next(); second != first+1 {
		t.Fatalf("read %d behind %d", second, first)
	}
	end()
}

// What is asked about a stream may get no answer, as when a cluster loses the server that had the question: it is asked again, however
// much time the caller has.
func TestAnAnswerThatIsLostIsNotWaitedFor(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if _, err := nc.Subscribe("$JS.API.>", func(*nats.Msg) {}); err != nil { // takes each question, and answers none
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	h := Host{JS: js, Conn: nc, Log: testLog()}
	ctx, cancel := context.WithTimeout(t.Context(), 10*askTimeout)
	defer cancel()
	var asking sync.WaitGroup
	for what, ask := range map[string]func() error{
		"first": func() error { _, err := FirstSequence(ctx, h); return err },
		"last":  func() error { _, err := LastSequence(ctx, h); return err },
		"leader": func() error {
			_, err := natsd.AskLeader(ctx, nc, natsd.Lifecycle, map[string]any{"seq": 1})
			return err
		},
	} {
		asking.Go(func() {
			if err := ask(); err == nil || ctx.Err() != nil {
				t.Errorf("%s: waited until %v, %v", what, ctx.Err(), err)
			}
		})
	}
	asking.Wait()
}

// readClaims reads the claims of a bus: one after the other, until the end, which has to be in order.
func readClaims(t *testing.T, b *bus) (ctx context.Context, next func() uint64, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, ended := make(chan uint64, 10), make(chan error, 1)
	go func() {
		ended <- tail(ctx, b.js, testLog(), []string{"claims.>"}, 1, func(m Message) error {
			read <- m.Sequence
			return nil
		})
	}()
	next = func() uint64 {
		t.Helper()
		select {
		case sequence := <-read:
			return sequence
		case <-time.After(patience):
			t.Fatal("nothing is read")
			return 0
		}
	}
	return ctx, next, func() {
		t.Helper()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// Whatever a reader loses, its connection or its consumer, and however often: it reads each message once, in order. How long it waits
// before it reads anew does not grow as long as it reads in between.
func TestAReaderLosesNothing(t *testing.T) {
	b := newBus(t)
	ctx, next, end := readClaims(t, b)
	stream, err := b.js.Stream(ctx, natsd.Lifecycle)
	if err != nil {
		t.Fatal(err)
	}
	mustClaim(t, b, "first", ticket("a"), "a")
	at := next()
	began := time.Now()
	const losses = 16
	for i := range losses {
		if i%2 == 0 {
			if err := b.js.Conn().ForceReconnect(); err != nil {
				t.Fatal(err)
			}
		} else {
			for c := range stream.ListConsumers(ctx).Info() {
				_ = stream.DeleteConsumer(ctx, c.Name)
			}
		}
		for n := range 2 {
			mustClaim(t, b, fmt.Sprint(i, "-", n), ticket("a"), "a")
			if at++; next() != at {
				t.Fatalf("after loss %d another message than %d came", i, at)
			}
		}
	}
	// Waits of 50 ms, twice as long each time up to 2 s, would take 16 s.
	t.Logf("%d losses took %s", losses, time.Since(began))
	end()
}

// forgetful is a stream that can not be asked once.
type forgetful struct {
	jetstream.JetStream
	fails atomic.Int32
}

func (f *forgetful) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	if f.fails.Add(-1) == 0 {
		return nil, errors.New("no answer")
	}
	return f.JetStream.Stream(ctx, name)
}

// Where a reader can not learn where the stream begins now, it does not go on over what may have been purged.
func TestAReaderThatCanNotAskDoesNotReadOn(t *testing.T) {
	b := newBus(t)
	stream, err := b.js.Stream(t.Context(), natsd.Lifecycle)
	if err != nil {
		t.Fatal(err)
	}
	mustClaim(t, b, "a", ticket("a"), "a")
	js := &forgetful{JetStream: b.js}
	var read []uint64
	err = tail(t.Context(), js, testLog(), []string{"claims.>"}, 1, func(m Message) error {
		read = append(read, m.Sequence)
		if len(read) > 1 {
			return errStop
		}
		var reader string
		for c := range stream.ListConsumers(t.Context()).Info() {
			reader = c.Name
		}
		if _, err := stream.PauseConsumer(t.Context(), reader, time.Now().Add(time.Hour)); err != nil { // so that nothing more is on its way
			return err
		}
		mustClaim(t, b, "b", ticket("b"), "b")
		mustClaim(t, b, "c", ticket("c"), "c")
		if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(m.Sequence+2)); err != nil {
			return err
		}
		js.fails.Store(1)
		return stream.DeleteConsumer(t.Context(), reader)
	})
	if !errors.Is(err, errGone) || len(read) != 1 {
		t.Errorf("read %d, %v, want %v", read, err, errGone)
	}
}

// An effect that is asked by more facts than before, or otherwise, gets what it asks for; one that has not changed does not bother the server.
func TestAnEffectsConsumerFollowsIt(t *testing.T) {
	b := newBus(t)
	h := b.host
	h.Timing = h.Timing.withDefaults()
	e := Effect{Name: "try", On: []events.Type{events.TypeOf(events.TicketCreated{})}}
	filters := func(e Effect) (all []string, made time.Time) {
		t.Helper()
		c, err := effectConsumer(t.Context(), h, events.Plan, e, new(progress))
		if err != nil {
			t.Fatal(err)
		}
		info, err := c.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.Config.FilterSubjects, info.Created
	}
	one, made := filters(e)
	same, again := filters(e)
	if !slices.Equal(one, same) || !made.Equal(again) {
		t.Errorf("%v became %v", one, same)
	}
	e.On = append(e.On, events.TypeOf(events.TicketUpdated{}))
	two, later := filters(e)
	if len(two) != len(one)+1 || !later.Equal(made) {
		t.Errorf("%v became %v", one, two)
	}
	h.Timing.AckWait *= 2
	c, err := effectConsumer(t.Context(), h, events.Plan, e, new(progress))
	if err != nil || c.CachedInfo().Config.AckWait != h.Timing.AckWait {
		t.Errorf("%v: %v", c.CachedInfo().Config, err)
	}
}

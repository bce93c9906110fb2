package service

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/natsd"
)

// A consumer can live and hand out nothing, as one does that stands on a copy of the stream which does not move; here it is
// paused. The reader notices, and goes on behind what it has seen, with another one.
func TestAReaderThatIsGivenNothingReadsAnew(t *testing.T) {
	b := newBus(t)
	ctx, cancel := context.WithCancel(t.Context())
	read, ended := make(chan uint64, 10), make(chan error, 1)
	go func() {
		ended <- tail(ctx, b.js, testLog(), []string{"claims.>"}, 1, func(m Message) error {
			read <- m.Sequence
			return nil
		})
	}()
	next := func() uint64 {
		t.Helper()
		select {
		case sequence := <-read:
			return sequence
		case <-time.After(patience):
			t.Fatal("nothing is read")
			return 0
		}
	}
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
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

package natsd_test

import (
	"fmt"
	"testing"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
)

// A reader that loses its connection or its consumer fails, and the next one goes on behind what was read; one that is closed leaves nothing.
func TestReader(t *testing.T) {
	_, nc, js := natsdtest.Start(t)
	stream, err := js.Stream(t.Context(), natsd.DeadLetter)
	if err != nil {
		t.Fatal(err)
	}
	consumers := func() (names []string) {
		for c := range stream.ListConsumers(t.Context()).Info() {
			names = append(names, c.Name)
		}
		return names
	}
	publish := func(n int) {
		t.Helper()
		if _, err := js.Publish(t.Context(), fmt.Sprintf("deadletter.%d", n), nil); err != nil {
			t.Fatal(err)
		}
	}
	publish(1)
	next := uint64(1)
	for round, lose := range []func(){
		func() { _ = nc.ForceReconnect() },
		func() {
			for _, name := range consumers() {
				_ = stream.DeleteConsumer(t.Context(), name)
			}
		},
		nil,
	} {
		r, err := natsd.NewReader(t.Context(), js, natsd.DeadLetter, []string{"deadletter.>"}, next)
		if err != nil {
			t.Fatal(err)
		}
		if r.Pending() != 1 {
			t.Errorf("round %d: %d pending behind %d", round, r.Pending(), next)
		}
		if _, at, err := r.Next(); err != nil || at.Sequence.Stream != next {
			t.Fatalf("round %d: read %+v, %v, want %d", round, at, err, next)
		}
		next++
		if lose != nil {
			lose()
			if _, at, err := r.Next(); err == nil {
				t.Errorf("round %d: a lost reader read %+v", round, at)
			}
		}
		r.Close(t.Context())
		if lose == nil && len(consumers()) > 1 { // that of the connection that was lost stays a while
			t.Errorf("it left %v", consumers())
		}
		publish(round + 2)
	}
}

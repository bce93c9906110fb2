package service

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// A worker whose fact the stream does not take keeps nobody from saving what is folded, nor the process from stopping.
func TestAStuckWorkerStopsNeitherSavingNorTheEnd(t *testing.T) {
	b := newBus(t)
	b.host.Timing = Timing{Save: 10 * time.Millisecond}
	s, stop := running(t, b.host, proofDefinition())
	awaitOwner(t, s)
	mustClaim(t, b, "before", ticket("x"), "k")
	// The last of what follows from it: what is stored later would take the room of what comes below.
	awaitEvent(t, b.js, "the ranking", "lifecycle.shop.plan.lemnis-backlog.ranked.*", func(events.Event) bool { return true })
	stream, err := b.js.Stream(t.Context(), natsd.Lifecycle)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	full := info.Config
	full.MaxMsgs, full.Discard = int64(info.State.Msgs)+3, jetstream.DiscardNew
	if _, err := b.js.UpdateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	moved := mustPut(t, b, "moved", update("x"), "k")
	mustClaim(t, b, "stuck", update("y"), "k") // no room is left for its fact
	saved := s.metrics.term.Load().completeName()
	for deadline := time.Now().Add(patience); ; wait(t.Context(), 5*time.Millisecond) {
		at, err := b.folds.Position(t.Context(), saved)
		if err == nil && at >= moved {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("saved up to %d, %v; %d is handled", at, err, moved)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(3 * drainLimit):
		t.Fatal("the process does not end")
	}
}

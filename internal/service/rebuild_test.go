package service

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// rebuilt asks for a rebuild and waits for its outcome.
func rebuilt(t *testing.T, b *bus, id string) events.RebuildReported {
	t.Helper()
	if err := b.claim(internalProject, id, events.RebuildRequested{Service: "plan", By: "ann"}, "plan"); err != nil {
		t.Fatal(err)
	}
	filter := events.Filter(events.Result, internalProject, events.Plan, events.TypeOf(events.RebuildReported{}))
	e := awaitEvent(t, b.js, "the outcome of "+id, filter, func(e events.Event) bool {
		c := e.Content.(events.RebuildReported)
		return c.Request == id && c.Finished
	})
	return e.Content.(events.RebuildReported)
}

// corrupt changes what the store has of an item: another state, at the sequence that the right one has.
func corrupt(t *testing.T, b *bus, sc fold.Scope, key string, state string) {
	t.Helper()
	saved, err := b.folds.Load(t.Context(), sc)
	if err != nil {
		t.Fatal(err)
	}
	id := fold.PartitionID{Project: "shop", Partition: events.Partition(key)}
	right, ok := saved[id].Fields["item/"+key]
	if !ok {
		t.Fatalf("item %s is not saved", key)
	}
	wrong := append(binary.BigEndian.AppendUint64(nil, binary.BigEndian.Uint64(right)), state...)
	name := fmt.Sprintf("fold:{%s/%s/%s}:shop/%d", sc.Stream, sc.Phase, sc.Version, id.Partition)
	if n, err := b.folds.Client().HSet(t.Context(), name, "item/"+key, wrong).Result(); err != nil || n != 0 {
		t.Fatalf("%d new fields, %v", n, err)
	}
}

// A fold that is not what the stream says is found and mended while decisions go on, in memory and in the store.
func TestRebuildMendsWhatTheStoreHasWrong(t *testing.T) {
	b := newBus(t)
	s, stop := running(t, b.host, proofDefinition())
	for i := range 40 {
		mustClaim(t, b, fmt.Sprint("new", i), ticket("x"), fmt.Sprint("k", i))
	}
	mustClaim(t, b, "touched", update("x"), "k7")
	expectFact(t, b, "touched")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	scope := s.newTerm(&lease{}).scope()
	corrupt(t, b, scope, "k7", `{"Known":false,"Closed":false,"Touched":0}`)

	s, stop = running(t, b.host, proofDefinition())
	awaitOwner(t, s)
	mustClaim(t, b, "wrong", update("x"), "k7")
	expectRefusal(t, b, "wrong", "it is not open") // that is what was saved
	claiming, enough := context.WithCancel(t.Context())
	claimed := make(chan int, 1)
	go func() {
		n := 0
		for ; claiming.Err() == nil && n < 5000; n++ {
			if err := b.claim("shop", fmt.Sprint("meanwhile", n), ticket("x"), fmt.Sprint("m", n)); err != nil { //nolint:contextcheck // it is to be sent whole
				t.Error(err)
			}
		}
		claimed <- n
	}()
	got := rebuilt(t, b, "first")
	enough()
	n := <-claimed
	if got.Failed != "" || got.Differing != 1 || len(got.Differences) != 1 || got.Differences[0] != "shop item/k7" || got.Facts < 41 || got.Aggregates < 41 {
		t.Errorf("the rebuild reports %+v", got)
	}
	mustClaim(t, b, "right", update("x"), "k7")
	expectFact(t, b, "right")
	mustClaim(t, b, "behind", update("x"), fmt.Sprint("m", n-1))
	expectFact(t, b, "behind")
	if got := rebuilt(t, b, "second"); got.Failed != "" || got.Differing != 0 {
		t.Errorf("the second rebuild reports %+v", got)
	}
	if missing := wrongInShop(t, b); missing != "" && !strings.HasPrefix(missing, "item/k7") {
		t.Error(missing)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s, _ = running(t, b.host, proofDefinition()) // from what is saved now
	awaitOwner(t, s)
	mustClaim(t, b, "still right", events.TicketClosed{Ticket: ticket("x").Ticket}, "k7")
	expectFact(t, b, "still right")
}

// Events that go while a rebuild is about to read them are not taken for never having been.
func TestRebuildDuringAPurge(t *testing.T) {
	b := newBus(t)
	b.keepAll(t)
	b.host.Timing.Snapshot = 10 * time.Millisecond
	purge := sync.OnceFunc(func() { b.purge(t) })
	b.host.faults = &faults{looked: purge}
	s, _ := running(t, b.host, proofDefinition())
	awaitOwner(t, s)
	for i := range 40 {
		id := fmt.Sprint("new", i)
		mustClaim(t, b, id, ticket("x"), fmt.Sprint("k", i))
		expectFact(t, b, id)
	}
	got := rebuilt(t, b, "during a purge")
	if gone := b.archive.gone.Load(); gone == 0 || got.Failed != "" || got.Differing > 0 || got.Aggregates < 40 {
		t.Errorf("up to %d gone; the rebuild reports %+v", gone, got)
	}
	for i := range 40 {
		id := fmt.Sprint("again", i)
		mustClaim(t, b, id, update("x"), fmt.Sprint("k", i))
		expectFact(t, b, id)
	}
}

// wrongInShop is what the oracle finds wrong in the project shop.
func wrongInShop(t *testing.T, b *bus) string {
	recorded, expected, _ := oracle(t, b, proofDefinition(), "shop")
	return difference(recorded, expected)
}

func TestRebuildOfNothing(t *testing.T) {
	b := newBus(t)
	_, _ = running(t, b.host, proofDefinition())
	if got := rebuilt(t, b, "empty"); got.Failed != "" || got.Aggregates != 0 || got.Differing != 0 {
		t.Errorf("%+v", got)
	}
	states, err := RebuildStates(t.Context(), b.host, 0, "empty")
	if err != nil || !states[events.Plan].Finished {
		t.Errorf("%v %v", states, err)
	}
}

func TestStatesAreComparedByWhatTheySay(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{`{"a":[],"b":null,"c":{}}`, `{}`, true},
		{`{"a":[{"b":[]}]}`, `{"a":[{}]}`, true},
		{`{"a":1}`, `{"a":2}`, false},
		{`{"a":[1]}`, `{"a":[]}`, false},
		{`{"a":0}`, `{}`, false},
	} {
		if got := sameJSON([]byte(c.a), []byte(c.b)); got != c.same {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
}

// A fold that stands behind the last fact is given up only by what the leader of the stream says.
func TestAFoldThatIsAheadIsReplaced(t *testing.T) {
	b := newBus(t)
	s, _ := running(t, b.host, proofDefinition())
	awaitOwner(t, s)
	mustClaim(t, b, "new", ticket("x"), "k")
	// The last of what follows from it: no fact comes between the two looks below.
	awaitEvent(t, b.js, "the ranking", "lifecycle.shop.plan.lemnis-backlog.ranked.*", func(events.Event) bool { return true })
	term := s.metrics.term.Load()
	for key, want := range map[string]bool{"k": true, "nothing": false} {
		id := fold.PartitionID{Project: "shop", Partition: events.Partition(key)}
		fresh, old := newPartition(events.Plan, id), newPartition(events.Plan, id)
		old.last = 1000
		if err := term.level(t.Context(), fresh, old); err != nil {
			t.Fatal(err)
		}
		last, err := LastOf(t.Context(), term.host, natsd.Lifecycle, fresh.fence)
		if err != nil || fresh.last != last || (last > 0) != want {
			t.Errorf("%s: folded up to %d of %d, %v", key, fresh.last, last, err)
		}
	}
}

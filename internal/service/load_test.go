package service

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/pkg/events"
)

// An owner that finds nothing saved folds each fact below its barrier, in order, and none behind it: with many of them, which
// are read in two steps, and with few.
func TestFoldsAreLoadedUpToTheBarrier(t *testing.T) {
	for _, facts := range []int{0, 1, few - 1, few, 2*few + 1} {
		t.Run(fmt.Sprint(facts), func(t *testing.T) {
			b := newBus(t)
			state := func(i int) uint64 {
				e := events.New("shop", fmt.Sprint("k", i%7), events.TicketUpdated{Ticket: events.Ticket{Summary: fmt.Sprint(i)}})
				e.Source, e.Aggregate, e.Cause, e.Chain = "/test", "item", "c", "chain"
				e.CauseSequence, e.ID = uint64(i+1), fmt.Sprint("fact-", i)
				msg, err := events.Encode(e)
				if err != nil {
					t.Fatal(err)
				}
				msg.Subject = e.Subject(events.Stated)
				ack, err := b.js.PublishMsg(t.Context(), msg)
				if err != nil {
					t.Fatal(err)
				}
				return ack.Sequence
			}
			for i := range facts {
				state(i)
			}
			mustClaim(t, b, "between", ticket("x"), "other")
			barrier := state(facts)
			for i := range 3 {
				state(facts + 1 + i)
			}
			folded := map[string][]string{}
			def := Definition{Phase: events.Plan, Aggregates: []Aggregate{Of(Rules[[]string]{
				Kind: "item", Version: 1,
				Route:  func(events.Project, events.Event) []string { return nil },
				Decide: func(string, []string, events.Project, events.Event) (f events.Fact, ok bool) { return f, false },
				Evolve: func(s []string, e events.Event) []string {
					folded[e.Key] = append(folded[e.Key], e.Content.(events.TicketUpdated).Summary)
					return append(slices.Clip(s), e.ID)
				},
			})}}
			tm := New(b.host, def).newTerm(&lease{})
			// The message at the barrier is one of the facts here, so that the filters let it through.
			if err := tm.loadFolds(t.Context(), barrier, 0, map[fold.PartitionID]*partition{}); err != nil {
				t.Fatal(err)
			}
			want := map[string][]string{}
			for i := range facts {
				key := fmt.Sprint("k", i%7)
				want[key] = append(want[key], fmt.Sprint(i))
			}
			if !maps.EqualFunc(folded, want, slices.Equal) {
				t.Errorf("%v is folded, not %v", folded, want)
			}
		})
	}
}

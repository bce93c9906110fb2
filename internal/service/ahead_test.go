package service

import (
	"encoding/json"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/pkg/events"
)

// A power failure may leave the store, or the lease, with more than the stream has. Neither is believed then.
func TestWhatIsAheadOfTheStreamIsForgotten(t *testing.T) {
	const ahead = 1000
	for name, advance := range map[string]func(t *testing.T, b *bus, complete string, sc fold.Scope){
		"position": func(t *testing.T, b *bus, complete string, _ fold.Scope) {
			at, err := b.folds.Position(t.Context(), complete)
			if err == nil {
				err = b.folds.Advance(t.Context(), complete, at, ahead, func(redis.Pipeliner) error { return nil })
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"partition": func(t *testing.T, b *bus, _ string, sc fold.Scope) {
			id := fold.PartitionID{Project: "shop", Partition: events.Partition("k")}
			save := fold.Save{ID: id, Sequence: ahead, Whole: func() map[string][]byte { return nil }}
			if err := b.folds.Save(t.Context(), sc, []fold.Save{save}); err != nil {
				t.Fatal(err)
			}
		},
		"floor": func(t *testing.T, b *bus, _ string, _ fold.Scope) {
			kv, err := b.js.KeyValue(t.Context(), leaseBucket)
			if err != nil {
				t.Fatal(err)
			}
			value, err := json.Marshal(holding{Floor: ahead})
			if err == nil {
				_, err = kv.Put(t.Context(), string(events.Plan), value)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBus(t)
			s, stop := running(t, b.host, proofDefinition())
			awaitOwner(t, s)
			mustClaim(t, b, "before", ticket("x"), "k")
			expectFact(t, b, "before")
			complete, scope := s.metrics.term.Load().completeName(), s.metrics.term.Load().scope()
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			advance(t, b, complete, scope)
			mustClaim(t, b, "meanwhile", update("x"), "k")
			_, stop = running(t, b.host, proofDefinition())
			expectFact(t, b, "meanwhile")
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			floor, err := floorOf(t.Context(), b.host, events.Plan)
			if err != nil || floor == 0 || floor >= ahead {
				t.Errorf("the lease was given back with the floor %d, %v", floor, err)
			}
			if at, err := b.folds.Position(t.Context(), complete); err != nil || at == 0 || at >= ahead {
				t.Errorf("the store is complete up to %d, %v", at, err)
			}
		})
	}
}

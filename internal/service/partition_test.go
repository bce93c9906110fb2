package service

import (
	"testing"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/pkg/events"
)

// A partition may be saved whole while a fact behind the sequence that it is saved under is folded already. Whoever loads it
// meets that fact again: nothing changes but the place, which has to be saved all the same. Else the store would hold
// more than it says for ever, and a predecessor's late save of less could replace it.
func TestAFoldSavedAheadOfItsPlaceIsSavedAgain(t *testing.T) {
	kinds := map[string]*Aggregate{}
	item := Of(itemRules())
	kinds[item.kind] = &item
	fact := events.Event{Kind: events.Stated, Aggregate: item.kind, Key: "a", Sequence: 7, CauseSequence: 5, Content: events.TicketCreated{}}
	p := newPartition(events.Plan, fold.PartitionID{Project: "shop"})
	if err := p.fold(kinds, fact); err != nil {
		t.Fatal(err)
	}
	clear(p.dirty)
	p.last, p.saved = 6, 6 // as it is loaded
	if err := p.fold(kinds, fact); err != nil {
		t.Fatal(err)
	}
	if p.last != 7 || len(p.dirty) == 0 {
		t.Errorf("it stands at %d and %d folds are to be saved; want 7 and some", p.last, len(p.dirty))
	}
}

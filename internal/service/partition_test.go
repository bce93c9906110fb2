package service

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"unsafe"

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
	p.saving()
	p.last, p.saved = 6, 6 // as it is loaded
	if err := p.fold(kinds, fact); err != nil {
		t.Fatal(err)
	}
	if p.last != 7 || len(p.dirty) == 0 {
		t.Errorf("it stands at %d and %d folds are to be saved; want 7 and some", p.last, len(p.dirty))
	}
}

// A fold keeps nothing of a fact but its state: the name of its aggregate, as it was read, is a part of the whole header.
func TestFoldKeepsNoHeader(t *testing.T) {
	header := strings.Repeat("x", 1000) + "item" + "a-key"
	fact := events.Event{Project: "shop", Aggregate: header[1000:1004], Key: header[1004:], Sequence: 1, CauseSequence: 1}
	p := newPartition(events.Plan, fold.PartitionID{Project: "shop"})
	p.put(fact, 1)
	fact.Sequence, fact.CauseSequence = 2, 2
	p.put(fact, 2)
	if len(p.dirty) != 1 {
		t.Fatalf("%d are to be saved", len(p.dirty))
	}
	for _, names := range [][]field{slices.Collect(maps.Keys(p.folded)), {p.dirty[0].name}} {
		if len(names) != 1 || names[0] != (field{"item", "a-key"}) {
			t.Fatalf("%v", names)
		}
		if unsafe.StringData(names[0].key) == unsafe.StringData(fact.Key) || unsafe.StringData(names[0].kind) == unsafe.StringData(fact.Aggregate) {
			t.Errorf("%s holds on to the header", names[0])
		}
	}
}

package builder

import (
	"fmt"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

// Changes come and go for years: of those that have left only the last are remembered, and of those that have not, all.
func TestRoundsOfChangesThatLeftAreForgotten(t *testing.T) {
	t.Parallel()
	q := newRounds()
	sequence := uint64(0)
	meet := func(content any) {
		sequence++
		q.apply(events.Event{Project: "shop", Sequence: sequence, Content: content})
	}
	of := func(n int) events.MergeDetail { return events.MergeDetail{Change: fmt.Sprint(n), Round: 2} }
	meet(events.QueueEntered{Merge: of(0)})
	const changes = 3 * keptRounds
	for n := 1; n <= changes; n++ {
		meet(events.QueueEntered{Merge: of(n)})
		if n%2 == 0 {
			meet(events.ChangeMerged{Lemnis: of(n)})
		} else {
			meet(events.QueueEjected{Merge: of(n)})
		}
	}
	if n := len(q.rounds); n > keptRounds+1 {
		t.Errorf("%d are remembered", n)
	}
	text, err := q.save()
	if err != nil {
		t.Fatal(err)
	}
	q = newRounds()
	if err := q.load(text); err != nil {
		t.Fatal(err)
	}
	meet(events.QueueEjected{Merge: of(changes + 1)}) // what is forgotten next is told by what was saved
	before := of(0)
	if before.Round--; q.over("shop", of(0)) || !q.over("shop", before) {
		t.Error("one that is still there is forgotten")
	}
	for n := changes - keptRounds/4; n <= changes; n++ {
		if !q.over("shop", of(n)) {
			t.Fatalf("%d left not long ago, and is forgotten", n)
		}
	}
}

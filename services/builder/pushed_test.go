package builder_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

// A list says a head, and not who pushed it. Whoever approves it before the webhook names them as its author has approved their own work: the
// change leaves the queue, and enters again by the approval of somebody else, which the fact names.
func TestWhoTurnsOutToHavePushedLosesTheApproval(t *testing.T) {
	t.Parallel()
	w := newWorld(shop(1))
	w.claim("7", proposed(commit("1")))
	w.settle()
	w.result("7", 1, events.ChangeUpdated{Lemnis: events.ChangeDetail{Repository: "api", Head: commit("2")}})
	w.claim("7", approved("bo", commit("2")))
	w.settle()
	if count[events.QueueEntered](w) != 1 {
		t.Fatalf("it is not in the queue: %v", w.since(0))
	}
	at := uint64(len(w.log))
	w.claim("7", events.ChangeUpdated{Lemnis: events.ChangeDetail{Head: commit("2"), Author: "bo"}})
	w.settle()
	want := []string{"change.updated change/7", "change.rejected change/7", "queue.ejected entry/7"}
	if got := w.since(at); !slices.Equal(got, want) {
		t.Fatalf("then %v", got)
	}
	if left, _ := last[events.QueueEjected](w); !strings.Contains(left.Reason, "0 of 1 approvals") {
		t.Errorf("it leaves for %q", left.Reason)
	}
	at = uint64(len(w.log))
	w.claim("7", approved("bo", commit("2")))
	w.claim("7", approved("cy", commit("2")))
	w.settle()
	want = []string{"claim.refused change/7", "change.reviewed change/7", "change.verified change/7", "queue.entered entry/7"}
	if got := w.since(at); len(got) < 4 || !slices.Equal(got[:4], want) {
		t.Fatalf("then %v", got)
	}
	if got, _ := last[events.ChangeVerified](w); !slices.Equal(got.Approvals, []string{"cy"}) {
		t.Errorf("verified by %v", got.Approvals)
	}
}

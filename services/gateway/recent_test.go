package gateway

import (
	"fmt"
	"testing"
)

// What the index has not met is remembered; what it has, is forgotten; and there is a bound.
func TestRecent(t *testing.T) {
	var r recent
	for i := range uint64(mostRecent) {
		if r.full(0) {
			t.Fatalf("full with %d", i)
		}
		r.add(fmt.Sprint(i+1), i+1, 0)
	}
	if !r.full(0) {
		t.Error("there is no bound")
	}
	if r.full(10) {
		t.Error("what the index has met counts")
	}
	r.add("last", mostRecent+1, 10)
	for id, want := range map[string]bool{"1": false, "10": false, "11": true, "last": true} {
		if _, ok := r.find(id); ok != want {
			t.Errorf("%s is remembered: %v", id, ok)
		}
	}
	r.forget(mostRecent + 1)
	if len(r.at) != 0 || len(r.order) != 0 {
		t.Errorf("%d and %d are left", len(r.at), len(r.order))
	}
}

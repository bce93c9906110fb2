package builder

import (
	"errors"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/forge"
)

// A forge whose lists are read, and that takes no status, is told statuses less and less often all the same.
func TestAListEndsNoRestOfStatuses(t *testing.T) {
	t.Parallel()
	d := newTeller(Options{}).desk("")
	x := reading{desk: d, ref: events.RepositoryRef{Forge: &events.Forge{Token: "secret:forge"}}}
	away := errors.New("answers 500")
	for n := range 6 {
		after := d.fault(toTell, away)
		if want := time.Second << n; after != want {
			t.Errorf("after %d faults it is left alone for %s, and not %s", n+1, after, want)
		}
		if err := x.ask(t.Context(), func() error { return nil }); !errors.Is(err, errLeftAlone) {
			t.Errorf("asked while it wants to be left alone: %v", err)
		}
		passed := d.rests[toTell]
		passed.until = time.Time{}
		d.rests[toTell] = passed
		if err := x.ask(t.Context(), func() error { return nil }); err != nil {
			t.Error(err)
		}
	}
	d.turn <- struct{}{}
	if err := d.end(t.Context(), "forge", nil); err != nil || d.rests[toTell].failed > 0 {
		t.Errorf("%v; %d faults are remembered of a forge that takes them again", err, d.rests[toTell].failed)
	}
}

// A list that can not be read keeps no status from being told: the forge is there.
func TestAListThatCanNotBeRead(t *testing.T) {
	t.Parallel()
	d := newTeller(Options{}).desk("")
	x := reading{desk: d, ref: events.RepositoryRef{Forge: &events.Forge{Token: "secret:forge"}}}
	for name, c := range map[string]struct {
		err  error
		rest bool
	}{
		"unreadable": {&forge.Unreadable{Reason: "it is no list"}, false},
		"a no":       {&forge.Refusal{Reason: "answers 403"}, false},
		"away":       {errors.New("can not be reached"), true},
	} {
		if err := x.ask(t.Context(), func() error { return c.err }); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
		if rests := d.resting("other") != nil; rests != c.rest {
			t.Errorf("%s: it rests: %v", name, rests)
		}
		d.well(toList)
	}
}

package builder

import (
	"context"
	"errors"
	"fmt"
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

// Failures that are mended alike are of one kind, whatever their words.
func TestKindsOfFailures(t *testing.T) {
	t.Parallel()
	away := kindOf(errors.New("read tcp 127.0.0.1:4711: connection reset"))
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"none":        {nil, ""},
		"other words": {errors.New("read tcp 127.0.0.1:4712: connection reset"), away},
		"slow":        {context.DeadlineExceeded, away},
		"busy":        {&forge.Busy{Reason: "answers 429"}, away},
		"a no":        {&forge.Refusal{Reason: "answers 403: request 4711", Status: 403}, kindOf(&forge.Refusal{Reason: "answers 403: request 4712", Status: 403})},
		"not asked":   {&forge.Refusal{Reason: "no token"}, "no token"},
		"too many":    {fmt.Errorf("%w: more than 2000", errTooMany), kindOf(errTooMany)},
	} {
		if got := kindOf(c.err); got != c.want {
			t.Errorf("%s: %q, and not %q", name, got, c.want)
		}
	}
	kinds := map[string]bool{away: true}
	for _, err := range []error{&forge.Refusal{Status: 401}, &forge.Refusal{Status: 404}, &forge.Refusal{Reason: "no token"}, &forge.Unreadable{}, errTooMany, errUnreported} {
		kinds[kindOf(err)] = true
	}
	if len(kinds) != 7 {
		t.Errorf("%v", kinds)
	}
}

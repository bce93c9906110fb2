package builder_test

import (
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
	"github.com/lemnis/lemnis/internal/runlog"
	"github.com/lemnis/lemnis/internal/stepcache"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/builder"
	"github.com/lemnis/lemnis/services/builder/executor"
)

// Two builders share a bus and no folder: what one has run of a tree the other does not run again, nor what a change upon it leaves as it was.
func TestBuildersShareWhatStepsLeft(t *testing.T) {
	t.Parallel()
	_, _, js := natsdtest.Start(t)
	o := emptyOrigin(t)
	o.commit(t, "main", map[string]string{"in": "1", ".lemnis.yaml": "steps:\n" +
		"  - {name: make, run: 'date +%s%N >made', inputs: [in], outputs: [made]}\n" +
		"  - {name: look, run: 'cat made', inputs: [other]}\n"})
	first := o.commit(t, "find", map[string]string{"other": "1"})
	var shifts []*shift
	for range 2 {
		shifts = append(shifts, newShift(t, builder.Options{Logs: runlog.New(js), Cache: stepcache.New(js), Isolation: executor.None}, project(o)))
	}
	run := func(s *shift, m events.MergeDetail) *events.Evidence {
		t.Helper()
		got := s.pipeline(t, m)
		if got.Outcome != events.Success {
			t.Fatal(got.Errors)
		}
		return got.Lemnis.Merge.Evidence
	}
	if e := run(shifts[0], find(first)); len(e.Reused) > 0 {
		t.Errorf("the first: %v", e.Reused)
	}
	if e := run(shifts[1], find(first)); strings.Join(e.Reused, " ") != "make look" {
		t.Errorf("the second builder: %v", e.Reused)
	}
	// Merged by the first, it is what the second makes the next change upon.
	merge := find(first)
	tested := shifts[0].pipeline(t, merge).Lemnis.Merge
	if _, err := shifts[0].work(t, "merge", "7", 1, events.QueueTested{Merge: tested}); err != nil {
		t.Fatal(err)
	}
	third := newShift(t, builder.Options{Logs: runlog.New(js), Cache: stepcache.New(js), Isolation: executor.None}, project(o))
	next := find(o.commit(t, "next", map[string]string{"other": "2"}))
	next.Change, next.Branch = "8", "next"
	if e := run(third, next); strings.Join(e.Reused, " ") != "make" {
		t.Errorf("upon what was merged: %v", e.Reused)
	}
}

package builder_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/services/builder"
)

// protect has a host take no push.
func protect(t *testing.T, o origin) {
	t.Helper()
	hook := filepath.Join(o.dir, "hooks", "pre-receive")
	for _, err := range []error{os.MkdirAll(filepath.Dir(hook), 0o700), os.WriteFile(hook, []byte("#!/bin/sh\necho main is protected >&2\nexit 1\n"), 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What is wrong with one change of a train when it lands is that one's: the others begin again, and are told whose it was. What is nobody's
// doing ejects nobody.
func TestATrainThatDoesNotLand(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil   func(t *testing.T, o origin)
		tries   uint64
		train   int               // how many changes of it are left
		ejected map[string]string // by change, a part of the reason; the others enter again
		reason  string            // a part of theirs
		alone   bool              // they do
	}{
		"the branch of one is gone": {func(t *testing.T, o origin) { o.git(t, "", "update-ref", "-d", "refs/heads/one") }, 1, 2,
			map[string]string{"one": `branch "one" is gone`}, "without change one", false},
		"the host says no":             {protect, 1, 2, nil, "once more, alone: of a train of 2 changes", true},
		"the host says no to a change": {protect, 1, 1, map[string]string{"one": "pre-receive hook declined: main is protected"}, "", false},
		"the host is away": {func(t *testing.T, o origin) {
			if err := os.Rename(o.dir, o.dir+".away"); err != nil {
				t.Fatal(err)
			}
		}, 20, 2, nil, "once more: given up after 20 attempts", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := emptyOrigin(t)
			o.commit(t, "main", map[string]string{".lemnis.yaml": "steps:\n  - name: test\n    run: \"true\"\n"})
			var all []events.MergeDetail
			for _, id := range []string{"one", "two"}[:c.train] {
				all = append(all, events.MergeDetail{Change: id, Repository: "api", Branch: id, Base: "main", Round: 1,
					Head: o.commit(t, id, map[string]string{id: "text\n"})})
			}
			s := newShift(t, builder.Options{Isolation: executor.None}, project(o))
			got, err := s.work(t, "pipeline", "api@1", 1, events.PipelineRunQueued{Lemnis: events.RunDetail{
				Merge: events.MergeDetail{Repository: "api", Base: "main"}, Changes: all}})
			if err != nil {
				t.Fatal(err)
			}
			finished := got.(events.PipelineRunFinished)
			if finished.Outcome != events.Success {
				t.Fatalf("%s: %s", finished.Outcome, finished.Errors)
			}
			c.spoil(t, o)
			said := map[string]any{}
			fact := events.Event{Project: "shop", Key: "api", Kind: events.Stated, Content: events.QueuePlanned{Repository: "api", Merged: finished.Lemnis.Changes}}
			job := service.NewJob(fact, s.project, 1, func(_ context.Context, r service.Report) error { said[r.Key] = r.Content; return nil })
			job.Tries = c.tries
			if err := s.do["land"](t.Context(), job); err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{"one", "two"}[:c.train] {
				switch is := said[id].(type) {
				case events.QueueEjected:
					if want := c.ejected[id]; want == "" || !has(is.Reason, want) {
						t.Errorf("%s left: %s", id, is.Reason)
					}
				case events.QueueEntered:
					if c.ejected[id] != "" || !has(is.Reason, c.reason) || is.Alone != c.alone {
						t.Errorf("%s enters again: %s (alone: %v)", id, is.Reason, is.Alone)
					}
				default:
					t.Errorf("of %s it is said %T", id, is)
				}
			}
		})
	}
}

// A head at which the master copy stands is nothing to merge, whatever is odd about it: that is said at once.
func TestNothingToMergeOfAnOddCommit(t *testing.T) {
	t.Parallel()
	o := textOrigin(t)
	tree := o.git(t, "", "rev-parse", "main^{tree}")
	head := o.git(t, "tree "+tree+"\nauthor A <a@b>\ncommitter A <a@b> 1 +0000\n\nodd", "hash-object", "-t", "commit", "-w", "--literally", "--stdin")
	o.git(t, "", "update-ref", "refs/heads/main", head)
	o.git(t, "", "update-ref", "refs/heads/find", head)
	s := newShift(t, builder.Options{}, project(o))
	if got := s.pipeline(t, find(head)); got.Outcome != events.Failure || !has(got.Errors, "there is nothing to merge") {
		t.Errorf("it ended with %s: %s", got.Outcome, got.Errors)
	}
	got, err := s.work(t, "survey", "7", 1, events.QueueEntered{Merge: find(head), Slots: 2})
	if f, ok := got.(events.QueueSurveyed); err != nil || !ok || !has(f.Reason, "there is nothing to merge") {
		t.Errorf("surveyed %+v, %v", got, err)
	}
}

// What is merged alone overlaps with all, whatever it touches.
func TestSurveyOfWhatIsMergedAlone(t *testing.T) {
	t.Parallel()
	o := goOrigin(t)
	head := o.commit(t, "find", map[string]string{"find.go": "package main\n\nfunc find(string) int { return 1 }\n"})
	for _, alone := range []bool{false, true} {
		got, err := newShift(t, builder.Options{}, project(o)).work(t, "survey", "7", 1, events.QueueEntered{Merge: find(head), Slots: 2, Alone: alone})
		f, ok := got.(events.QueueSurveyed)
		if err != nil || !ok || slices.Equal(f.Writes, []string{"*"}) != alone || (f.Reads == nil) != alone {
			t.Errorf("alone %v: %+v, %v", alone, got, err)
		}
	}
}

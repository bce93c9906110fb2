package builder_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder"
	"github.com/lemnis/lemnis/services/builder/executor"
)

// What is wrong with one change of a train when it lands is that one's: the others begin again, and are told whose it was. What is nobody's
// doing ejects nobody.
func TestATrainThatDoesNotLand(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil   func(t *testing.T, o origin)
		tries   uint64
		ejected map[string]string // by change, a part of the reason; the others enter again
		reason  string            // a part of theirs
	}{
		"the branch of one is gone": {func(t *testing.T, o origin) { o.git(t, "", "update-ref", "-d", "refs/heads/one") }, 1,
			map[string]string{"one": `branch "one" is gone`}, "without change one"},
		"the host says no": {func(t *testing.T, o origin) {
			hook := filepath.Join(o.dir, "hooks", "pre-receive")
			for _, err := range []error{os.MkdirAll(filepath.Dir(hook), 0o700), os.WriteFile(hook, []byte("#!/bin/sh\necho main is protected >&2\nexit 1\n"), 0o700)} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}, 1, map[string]string{"one": "pre-receive hook declined: main is protected", "two": "pre-receive hook declined: main is protected"}, ""},
		"the host is away": {func(t *testing.T, o origin) {
			if err := os.Rename(o.dir, o.dir+".away"); err != nil {
				t.Fatal(err)
			}
		}, 20, nil, "once more: given up after 20 attempts"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := emptyOrigin(t)
			o.commit(t, "main", map[string]string{".lemnis.yaml": "steps:\n  - name: test\n    run: \"true\"\n"})
			var all []events.MergeDetail
			for _, id := range []string{"one", "two"} {
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
			for _, id := range []string{"one", "two"} {
				switch is := said[id].(type) {
				case events.QueueEjected:
					if want := c.ejected[id]; want == "" || !has(is.Reason, want) {
						t.Errorf("%s left: %s", id, is.Reason)
					}
				case events.QueueEntered:
					if c.ejected[id] != "" || !has(is.Reason, c.reason) {
						t.Errorf("%s enters again: %s", id, is.Reason)
					}
				default:
					t.Errorf("of %s it is said %T", id, is)
				}
			}
		})
	}
}

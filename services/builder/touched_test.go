package builder_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/services/builder"
	"github.com/lemnis/lemnis/services/builder/survey"
)

// A change that removes more than can be listed has that said of it; it is no fault of the machinery, which would be tried again for hours.
func TestAChangeOfMoreThanCanBeListed(t *testing.T) {
	t.Parallel()
	o := emptyOrigin(t)
	o.commit(t, "main", map[string]string{".lemnis.yaml": "steps: [{name: a, run: 'true', when: 'paths.exists(p, p.endsWith(\".go\"))'}]\n"})
	entries := o.git(t, "", "ls-tree", "main")
	blob := o.git(t, "x", "hash-object", "-w", "--stdin")
	var list strings.Builder
	for i := range 36_000 { // of 4 KB each
		fmt.Fprintf(&list, "100644 blob %s\t%05d\n", blob, i)
	}
	tree := o.git(t, list.String(), "mktree")
	for range 16 {
		tree = o.git(t, fmt.Sprintf("040000 tree %s\t%s\n", tree, strings.Repeat("d", 250)), "mktree")
	}
	whole := o.git(t, entries+fmt.Sprintf("\n040000 tree %s\td\n", tree), "mktree")
	main := o.git(t, "all", "commit-tree", whole, "-p", "main")
	o.git(t, "", "update-ref", "refs/heads/main", main)
	head := o.git(t, "less", "commit-tree", o.git(t, entries+"\n", "mktree"), "-p", main)
	o.git(t, "", "update-ref", "refs/heads/find", head)

	s := newShift(t, builder.Options{Isolation: executor.None}, project(o))
	const want = "more files than can be listed"
	if got := s.pipeline(t, find(head)); got.Outcome != events.Failure || !strings.Contains(got.Errors, want) {
		t.Errorf("its run: %s, %s", got.Outcome, got.Errors)
	}
	got, err := s.work(t, "survey", "7", 1, events.QueueEntered{Slots: 2, Merge: find(head)})
	if err != nil {
		t.Fatal(err)
	}
	if surveyed := got.(events.QueueSurveyed); strings.Join(surveyed.Writes, " ") != survey.Everything || !strings.Contains(surveyed.Reason, want) {
		t.Errorf("its survey: %+v", surveyed)
	}
}

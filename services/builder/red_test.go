package builder_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/service/rulestest"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/services/builder"
)

// bomb is a test that fails as long as a file is there; steps are not kept apart from the machine then.
func bomb(pkg, file string) string {
	return fmt.Sprintf("package %s\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestBomb(t *testing.T) {\n\tif _, err := os.Stat(%q); err == nil {\n\t\tt.Fatal(\"it is too late\")\n\t}\n}\n", pkg, file)
}

// A test that fails on the master copy itself since some day ejects nobody: what fails beside it does, and the facts say so.
func TestATestThatIsRedOnTheMasterCopy(t *testing.T) {
	t.Parallel()
	o := emptyOrigin(t)
	late := filepath.Join(t.TempDir(), "late")
	files := map[string]string{"clock/bomb_test.go": bomb("clock", late)}
	for name, text := range shopFiles {
		files[name] = text
	}
	files[".lemnis.yaml"] = "steps:\n  - name: test\n    run: go test -count=1 -json ./... > tests.json\n    reports: {tests: [tests.json]}\n"
	o.commit(t, "main", files)
	if err := os.WriteFile(late, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := project(o)
	p.Queue = &events.QueuePolicy{Slots: 2}
	c := newCrew(t, builder.Options{Data: t.TempDir(), Isolation: executor.None, Parallel: 2}, p)
	c.propose("hi", o.commit(t, "hi", map[string]string{"mail/mail.go": "package mail\n\n// Greeting begins a mail.\nconst Greeting = \"Hi\"\n"}))
	c.propose("red", o.commit(t, "red", map[string]string{"web/web_test.go": "package web\n\nimport \"testing\"\n\nfunc TestWeb(t *testing.T) { t.Fatal(\"red\") }\n"}))
	c.settle()
	merged, left := rulestest.Facts[events.ChangeMerged](c.stream), rulestest.Facts[events.QueueEjected](c.stream)
	if len(merged) != 1 || merged[0].Lemnis.Change != "hi" || len(left) != 1 || left[0].Merge.Change != "red" {
		t.Fatalf("merged %+v, left %+v", merged, left)
	}
	before := []string{"example.org/shop/clock.TestBomb"}
	if e := merged[0].Lemnis.Evidence; e == nil || !slices.Equal(e.RedBefore, before) || e.Failed != 0 || e.Skipped != 1 || e.Quarantined != nil {
		t.Errorf("evidence %+v", e)
	}
	if reason := left[0].Reason; !has(reason, "TestWeb") || has(reason, "TestBomb") {
		t.Errorf("red left for %q", reason)
	}
	for _, f := range rulestest.Facts[events.PipelineRunFinished](c.stream) {
		if !slices.Contains(f.Lemnis.Tests, events.TestCase{Name: before[0], Outcome: events.TestFailed, Seconds: secondsOf(f, before[0])}) {
			t.Errorf("the history has it as %+v", f.Lemnis.Tests)
		}
	}
}

func secondsOf(f events.PipelineRunFinished, name string) float64 {
	for _, c := range f.Lemnis.Tests {
		if c.Name == name {
			return c.Seconds
		}
	}
	return 0
}

// What failed and passed on one commit before, in other runs, is tried more often before it is believed.
func TestAFlakyTestIsKnownAgain(t *testing.T) {
	t.Parallel()
	o := emptyOrigin(t)
	counter := filepath.Join(t.TempDir(), "runs")
	o.commit(t, "main", map[string]string{".lemnis.yaml": fmt.Sprintf("steps:\n  - name: test\n    run: |\n      echo >> %[1]s\n"+
		"      test $(wc -l < %[1]s) -gt 4 && echo 'ok 1 - five' > out.tap || echo 'not ok 1 - five' > out.tap\n      echo 1..1 >> out.tap\n      ! grep -q not out.tap\n    reports: {tests: [out.tap]}\n", counter)})
	m := find(o.commit(t, "find", map[string]string{"a": "a"}))
	train := events.PipelineRunQueued{Lemnis: events.RunDetail{Merge: m, Changes: []events.MergeDetail{m}}}
	for _, known := range []bool{false, true} {
		s := newShift(t, builder.Options{Isolation: executor.None}, project(o))
		for n, outcome := range []string{events.TestFailed, ""} {
			if known {
				s.meet(events.Event{Kind: events.Stated, Project: "shop", Key: fmt.Sprintf("api@%d", n), Content: events.PipelineRunFinished{Lemnis: events.RunDetail{
					Merge: events.MergeDetail{Repository: "api", Commit: "c"}, Tests: []events.TestCase{{Name: "five", Outcome: outcome}}}}})
			}
		}
		if err := os.RemoveAll(counter); err != nil {
			t.Fatal(err)
		}
		got, err := s.work(t, "pipeline", "api@1", 1, train)
		end, _ := got.(events.PipelineRunFinished)
		want := map[bool]string{false: events.Failure, true: events.Success}[known]
		if err != nil || end.Outcome != want {
			t.Fatalf("known %v: %v %s: %s", known, err, end.Outcome, end.Errors)
		}
		if known && (!slices.Equal(end.Lemnis.Merge.Evidence.Flaky, []string{"five"}) || !slices.Equal(end.Lemnis.Tests, []events.TestCase{{Name: "five", Outcome: events.TestFlaky}})) {
			t.Errorf("flaky %v, told %v", end.Lemnis.Merge.Evidence.Flaky, end.Lemnis.Tests)
		}
	}
}

// What a master copy's tests leave in Go's caches when they are run for a change that fails goes with that run: the host's caches are every project's.
func TestTheMasterCopysTestsDoNotWriteToTheHostsCaches(t *testing.T) {
	t.Parallel()
	if isolated, why, err := executor.NewProcess(executor.Auto).Isolated(t.Context()); err != nil || !isolated {
		t.Skipf("SKIPPED: that the host's caches are left alone was NOT shown: %s (%v)", why, err)
	}
	caches, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE").Output() //nolint:noctx // takes some milliseconds
	if err != nil {
		t.Fatal(err)
	}
	mark := fmt.Sprint("lemnis-test-", time.Now().UnixNano())
	o := emptyOrigin(t)
	o.commit(t, "main", map[string]string{"go.mod": "module example.org/api\n", ".lemnis.yaml": "steps:\n  - name: test\n    run: |\n      touch $GOCACHE/" + mark + " $GOMODCACHE/" + mark +
		"\n      printf 'not ok 1 - late\\n1..1\\n' > out.tap\n      exit 1\n    reports: {tests: [out.tap]}\n"})
	p := project(o)
	p.Queue = &events.QueuePolicy{Slots: 2}
	c := newCrew(t, builder.Options{Data: t.TempDir(), Isolation: executor.Required}, p)
	c.propose("hi", o.commit(t, "hi", map[string]string{"notes": "hi"}))
	c.settle()
	merged := rulestest.Facts[events.ChangeMerged](c.stream)
	if len(merged) != 1 || merged[0].Lemnis.Evidence == nil || !slices.Equal(merged[0].Lemnis.Evidence.RedBefore, []string{"late"}) {
		t.Fatalf("merged %+v, left %+v: the master copy was not tested", merged, rulestest.Facts[events.QueueEjected](c.stream))
	}
	for cache := range strings.FieldsSeq(string(caches)) {
		at := filepath.Join(cache, mark)
		if _, err := os.Stat(at); err == nil {
			t.Errorf("the host's cache was written to: %v", os.Remove(at))
		}
	}
}

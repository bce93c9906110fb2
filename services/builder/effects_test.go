package builder_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder"
)

func TestPipelineEndsInAClearFact(t *testing.T) {
	t.Parallel()
	red := map[string]string{"find.go": "package main\n\nfunc find(string) int { return 7 }\n"}
	cases := map[string]struct {
		origin  func(t *testing.T) (o origin, head string)
		outcome string
		reason  string // a part of it
	}{
		"green": {func(t *testing.T) (origin, string) {
			o := goOrigin(t)
			return o, o.commit(t, "find", map[string]string{
				"more.go":      "package main\n\nfunc used() int { return 1 }\n\nfunc unused() int { return 2 }\n",
				"more_test.go": "package main\n\nimport \"testing\"\n\nfunc TestUsed(t *testing.T) { used() }\n",
			})
		}, events.Success, ""},
		"red tests": {func(t *testing.T) (origin, string) { o := goOrigin(t); return o, o.commit(t, "find", red) },
			events.Failure, "test: 1 failed: TestFind"},
		"does not compile": {func(t *testing.T) (origin, string) {
			o := goOrigin(t)
			return o, o.commit(t, "find", map[string]string{"find.go": "package main\n\nfunc find(string) int { return nothing }\n"})
		}, events.Failure, "compile: exit status 1"},
		"conflict": {func(t *testing.T) (origin, string) {
			o := textOrigin(t)
			head := o.commit(t, "find", red)
			o.commit(t, "main", map[string]string{"find.go": "package main\n"})
			return o, head
		}, events.Failure, "conflicts with main in find.go"},
		"no go.mod": {func(t *testing.T) (origin, string) {
			o := textOrigin(t)
			return o, o.commit(t, "find", map[string]string{"more": "text\n"})
		}, events.Failure, "nothing that says how to build it"},
		"vanished branch": {func(t *testing.T) (origin, string) {
			o := textOrigin(t)
			head := o.commit(t, "find", red)
			o.git(t, "", "update-ref", "-d", "refs/heads/find")
			return o, head
		}, events.Failure, `branch "find" is gone`},
		"rewritten branch": {func(t *testing.T) (origin, string) {
			o := textOrigin(t)
			head := o.commit(t, "find", red)
			o.git(t, "", "update-ref", "refs/heads/kept", head)
			o.git(t, "", "update-ref", "refs/heads/find", o.head(t, "main"))
			return o, head
		}, events.Failure, "was rewritten"},
		"unknown commit": {func(t *testing.T) (origin, string) {
			o := textOrigin(t)
			o.commit(t, "find", red)
			return o, commit("nowhere")
		}, events.Failure, "has no commit"},
		"there already": {func(t *testing.T) (origin, string) {
			o := textOrigin(t)
			head := o.commit(t, "find", red)
			o.git(t, "", "update-ref", "refs/heads/main", head)
			return o, head
		}, events.Failure, "part of main already"},
		"no master copy": {func(t *testing.T) (origin, string) {
			o := emptyOrigin(t)
			return o, o.commit(t, "find", module)
		}, events.Failure, `has no branch "main"`},
		"library": {func(t *testing.T) (origin, string) {
			o := emptyOrigin(t)
			o.commit(t, "main", map[string]string{"go.mod": module["go.mod"], "a.go": "package api\n"})
			return o, o.commit(t, "find", map[string]string{"b.go": "package api\n"})
		}, events.Success, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, head := c.origin(t)
			s := newShift(t, builder.Options{}, project(o))
			got := s.pipeline(t, find(head))
			if got.Outcome != c.outcome || !has(got.Errors, c.reason) {
				t.Fatalf("outcome %q, errors %q", got.Outcome, got.Errors)
			}
			if _, ok := s.heard[0].Content.(events.PipelineRunStarted); !ok || len(s.heard) != 2 {
				t.Fatalf("reported %+v", s.heard)
			}
			m := got.Lemnis.Merge
			if got.Outcome == events.Success && (m.Onto != o.head(t, "main") || m.Commit == "" || m.Evidence == nil || m.Committed == "") {
				t.Fatalf("merge %+v", m)
			}
			if name == "conflict" && (len(got.Lemnis.Conflicts) != 1 || got.Lemnis.Conflicts[0] != "find.go") {
				t.Fatalf("conflicts %v", got.Lemnis.Conflicts)
			}
			if name == "green" && (m.Evidence.Tests != 2 || m.Evidence.Failed != 0 || m.Evidence.Coverage <= 0 ||
				m.Evidence.Changed == nil || *m.Evidence.Changed != (events.Covered{Percent: 50, Lines: 2})) {
				t.Fatalf("evidence %+v, of what changed %+v", *m.Evidence, m.Evidence.Changed)
			}
			if name == "red tests" && (m.Evidence == nil || m.Evidence.Failed != 1 || !has(got.Errors, "not found")) {
				t.Fatalf("evidence %+v, errors %q", m.Evidence, got.Errors)
			}
		})
	}
}

func TestPipelineRefusesWhatIsNotConfigured(t *testing.T) {
	t.Parallel()
	o := goOrigin(t)
	m := find(o.commit(t, "find", map[string]string{"more.go": "package main\n"}))
	p := project(o)
	p.Repositories[0].Credentials = "secret:git"
	if got := newShift(t, builder.Options{}, p).pipeline(t, m); got.Outcome != events.Failure || !has(got.Errors, `repository "api": `) || !has(got.Errors, "no folder of secrets") {
		t.Fatalf("errors %q", got.Errors)
	}
	p.Repositories = nil
	if got := newShift(t, builder.Options{}, p).pipeline(t, m); !has(got.Errors, "not one of the project's") {
		t.Fatalf("errors %q", got.Errors)
	}
}

// A host that cannot be reached is a fault: tried again, and after many attempts the outcome.
func TestUnreachableHostIsTriedAgainThenStated(t *testing.T) {
	t.Parallel()
	s := newShift(t, builder.Options{}, project(origin{filepath.Join(t.TempDir(), "nowhere.git")}))
	queued := events.PipelineRunQueued{Lemnis: events.RunDetail{Merge: find(commit("x"))}}
	if got, err := s.work(t, "pipeline", "7#1", 3, queued); err == nil {
		t.Fatalf("reported %+v", got)
	}
	got, err := s.work(t, "pipeline", "7#1", 20, queued)
	if end, ok := got.(events.PipelineRunFinished); err != nil || !ok || end.Outcome != events.Errored || !has(end.Errors, "20 attempts") {
		t.Fatalf("reported %+v, %v", got, err)
	}
	tested := events.QueueTested{Merge: find(commit("x"))}
	if got, err := s.work(t, "merge", "7", 3, tested); err == nil {
		t.Fatalf("reported %+v", got)
	}
	if got, err := s.work(t, "merge", "7", 20, tested); err != nil || !has(got.(events.QueueEjected).Reason, "20 attempts") {
		t.Fatalf("reported %+v, %v", got, err)
	}
}

func TestMergeMovesTheMasterCopyOnce(t *testing.T) {
	t.Parallel()
	o := textOrigin(t)
	p, data := project(o), t.TempDir()
	s := newShift(t, builder.Options{Data: data}, p)
	end := s.pipeline(t, find(o.commit(t, "find", map[string]string{"more": "text\n"})))
	tested := events.QueueTested{Merge: end.Lemnis.Merge}

	// The bus is gone when the merge is to be reported: done, and not known.
	s.deaf = errors.New("no bus")
	if _, err := s.work(t, "merge", "7", 1, tested); !errors.Is(err, s.deaf) {
		t.Fatalf("error %v", err)
	}
	s.deaf = nil
	if at := o.head(t, "main"); at != tested.Merge.Commit {
		t.Fatalf("main is at %s", at)
	}
	// Somebody works on; another worker, with a mirror of its own, takes over.
	later := o.commit(t, "main", map[string]string{"later": "text\n"})
	other := newShift(t, builder.Options{}, p)
	got, err := other.work(t, "merge", "7", 2, tested)
	if c, ok := got.(events.ChangeMerged); err != nil || !ok || c.Lemnis.Commit != tested.Merge.Commit || c.Repository.ID != "api" {
		t.Fatalf("reported %+v, %v", got, err)
	}
	if at := o.head(t, "main"); at != later {
		t.Fatalf("main is at %s", at)
	}
}

func TestAnyWorkerMakesTheTestedCommit(t *testing.T) {
	t.Parallel()
	o := textOrigin(t)
	p := project(o)
	end := newShift(t, builder.Options{}, p).pipeline(t, find(o.commit(t, "find", map[string]string{"more": "text\n"})))
	m := end.Lemnis.Merge
	got, err := newShift(t, builder.Options{}, p).work(t, "merge", "7", 1, events.QueueTested{Merge: m})
	if _, ok := got.(events.ChangeMerged); err != nil || !ok || o.head(t, "main") != m.Commit {
		t.Fatalf("reported %+v, %v", got, err)
	}
	if text := o.git(t, "", "log", "-1", "--format=%an|%cn|%B", "main"); !has(text, "Ann|Lemnis|Merge change 7: Find things") || !has(text, "Item: T-1") {
		t.Fatalf("commit says %q", text)
	}
}

func TestMergeOnAMovedMasterCopyIsTestedAgain(t *testing.T) {
	t.Parallel()
	o := textOrigin(t)
	s := newShift(t, builder.Options{}, project(o))
	m := s.pipeline(t, find(o.commit(t, "find", map[string]string{"more": "text\n"}))).Lemnis.Merge
	moved := o.commit(t, "main", map[string]string{"later": "text\n"})
	got, err := s.work(t, "merge", "7", 1, events.QueueTested{Merge: m})
	if c, ok := got.(events.QueueEntered); err != nil || !ok || !has(c.Reason, "main has moved") || c.Merge.Commit != m.Commit {
		t.Fatalf("reported %+v, %v", got, err)
	}
	if o.head(t, "main") != moved {
		t.Fatal("main moved to what was not tested on it")
	}
	// A commit that nobody tested here, under the tested change's name.
	m.Onto, m.Commit = moved, commit("forged")
	got, err = s.work(t, "merge", "7", 1, events.QueueTested{Merge: m})
	if _, ok := got.(events.QueueEntered); err != nil || !ok || o.head(t, "main") != moved {
		t.Fatalf("reported %+v, %v", got, err)
	}
}

// A branch that is rewritten or deleted while its change is tested is not merged, and the fact says why; what was merged before stays so.
func TestBranchThatGoesWhileItIsTested(t *testing.T) {
	t.Parallel()
	for reason, do := range map[string]func(o origin){
		`branch "find" was rewritten`: func(o origin) { o.git(t, "", "update-ref", "refs/heads/find", o.head(t, "main")) },
		`branch "find" is gone`:       func(o origin) { o.git(t, "", "update-ref", "-d", "refs/heads/find") },
	} {
		o := textOrigin(t)
		s := newShift(t, builder.Options{}, project(o))
		head := o.commit(t, "find", map[string]string{"more": "text\n"})
		m, main := s.pipeline(t, find(head)).Lemnis.Merge, o.head(t, "main")
		do(o)
		got, err := s.work(t, "merge", "7", 1, events.QueueTested{Merge: m})
		if c, ok := got.(events.QueueEjected); err != nil || !ok || !has(c.Reason, reason) || o.head(t, "main") != main {
			t.Errorf("%s: reported %+v, %v", reason, got, err)
		}
		o.git(t, "", "update-ref", "refs/heads/find", head)
		if got, err = s.work(t, "merge", "7", 2, events.QueueTested{Merge: m}); err != nil || o.head(t, "main") != m.Commit {
			t.Errorf("restored: reported %+v, %v", got, err)
		}
		do(o)
		if got, err = s.work(t, "merge", "7", 3, events.QueueTested{Merge: m}); err != nil || events.TypeOf(got) != events.TypeOf(events.ChangeMerged{}) {
			t.Errorf("after the merge: reported %+v, %v", got, err)
		}
	}
}

func TestPackagePushesByDigest(t *testing.T) {
	t.Parallel()
	o := goOrigin(t)
	var up atomic.Bool
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			http.Error(w, "disk full", http.StatusInternalServerError)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	host := server.URL
	s := newShift(t, builder.Options{Registry: host}, project(o))
	m := s.pipeline(t, find(o.commit(t, "find", map[string]string{"more.go": "package main\n"}))).Lemnis.Merge
	if _, err := s.work(t, "merge", "7", 1, events.QueueTested{Merge: m}); err != nil {
		t.Fatal(err)
	}
	queued := events.BuildQueued{Lemnis: events.BuildDetail{Service: "api", Merge: m}}
	if got, err := s.work(t, "package", "7#1", 1, queued); err == nil {
		t.Fatalf("a registry that is down is no outcome at the first attempt: %+v", got)
	}
	up.Store(true)
	first := finished(t, s, "7#1", queued)
	if first.Lemnis.Outcome != events.Success || first.Lemnis.Merge.Evidence == nil || first.Lemnis.Size == 0 {
		t.Fatalf("build %+v", first.Lemnis)
	}
	// A worker on another host, which did not run the pipeline, makes the same artifact.
	again := finished(t, newShift(t, builder.Options{Registry: host}, project(o)), "7#1", queued)
	if again.ArtifactID != first.ArtifactID || again.Lemnis.Digest != first.Lemnis.Digest {
		t.Fatalf("first %s, again %s: %s", first.ArtifactID, again.ArtifactID, again.Lemnis.Reason)
	}
	ref, err := oci.ParsePURL(first.ArtifactID)
	if err != nil {
		t.Fatal(err)
	}
	file, err := oci.Pull(t.Context(), ref, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(file).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "1" {
		t.Fatalf("it prints %q, %v", out, err)
	}
}

func finished(t *testing.T, s *shift, key string, queued events.BuildQueued) events.BuildFinished {
	t.Helper()
	got, err := s.work(t, "package", key, 1, queued)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.heard[0].Content.(events.BuildStarted); !ok || len(s.heard) != 2 {
		t.Fatalf("reported %+v", s.heard)
	}
	return got.(events.BuildFinished)
}

func TestInitialBuild(t *testing.T) {
	t.Parallel()
	host := ociRegistry(t)
	initial := events.BuildQueued{Lemnis: events.BuildDetail{Service: "api", Merge: events.MergeDetail{Repository: "api", Base: "main"}}}
	o := goOrigin(t)
	got := finished(t, newShift(t, builder.Options{Registry: host}, project(o)), "api@initial", initial)
	m := got.Lemnis.Merge
	if got.Lemnis.Outcome != events.Success || m.Commit != o.head(t, "main") || m.Author != "Ann" || m.Title != "Work" || m.Committed == "" ||
		m.Evidence == nil || m.Evidence.Tests != 1 {
		t.Fatalf("build %+v: %s", m, got.Lemnis.Reason)
	}
	for reason, c := range map[string]struct {
		o    origin
		host string
	}{
		`has no branch "main"`:              {emptyOrigin(t), host},
		"nothing that says how to build it": {textOrigin(t), host},
		"no registry":                       {o, ""},
	} {
		got := finished(t, newShift(t, builder.Options{Registry: c.host}, project(c.o)), "api@initial", initial)
		if got.Lemnis.Outcome != events.Failure || got.ArtifactID != "" || !has(got.Lemnis.Reason, reason) {
			t.Fatalf("%s: build %+v", reason, got.Lemnis)
		}
	}
}

// A process that died left a ref locked and a room half made; another one still works beside.
func TestStartsCleanBesideTheLiving(t *testing.T) {
	t.Parallel()
	o := textOrigin(t)
	p, data := project(o), t.TempDir()
	head := o.commit(t, "find", map[string]string{"more": "text\n"})
	debris := []string{filepath.Join(data, "0", "mirrors", "shop", "x.git", "refs", "heads", "main.lock"), filepath.Join(data, "0", "work", "dead-1", "tree", "a.go")}
	for _, file := range debris {
		must(os.MkdirAll(filepath.Dir(file), 0o700))
		must(os.WriteFile(file, nil, 0o600))
	}
	first, second := newShift(t, builder.Options{Data: data}, p), newShift(t, builder.Options{Data: data}, p)
	for _, s := range []*shift{first, second} {
		if end := s.pipeline(t, find(head)); !has(end.Errors, "nothing that says how to build it") {
			t.Fatalf("errors %q", end.Errors)
		}
	}
	for _, file := range debris {
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", file, err)
		}
	}
	if _, err := os.Stat(filepath.Join(data, "1", "mirrors")); err != nil {
		t.Errorf("the second has no place of its own: %v", err)
	}
}

// A change that left the queue while its repository could not be reached is not merged after all,
// and costs no run; one that was merged before it left is said to be.
func TestWhatLeftTheQueueIsLeftAlone(t *testing.T) {
	t.Parallel()
	o := textOrigin(t)
	p, data := project(o), t.TempDir()
	m := find(o.commit(t, "find", map[string]string{"more": "text\n"}))
	integrate := builder.New(builder.Options{Data: data})[1]
	s := &shift{project: p, do: map[string]func(context.Context, *service.Job) error{}}
	for _, e := range integrate.Effects {
		s.do[e.Name] = e.Do
	}
	m = s.pipeline(t, m).Lemnis.Merge
	before := o.head(t, "main")
	integrate.Projections[0].Apply(events.Event{Project: p.Name, Content: events.QueueEjected{Merge: m}})
	if got, err := s.work(t, "merge", "7", 1, events.QueueTested{Merge: m}); err != nil || got != nil || o.head(t, "main") != before {
		t.Fatalf("reported %+v, %v", got, err)
	}
	if end := s.pipeline(t, m); end.Outcome != events.Cancelled {
		t.Fatalf("outcome %s", end.Outcome)
	}
	o.git(t, "", "fetch", "--quiet", mirrorOf(t, data), m.Commit+":refs/heads/main")
	got, err := s.work(t, "merge", "7", 1, events.QueueTested{Merge: m})
	if _, ok := got.(events.ChangeMerged); err != nil || !ok {
		t.Fatalf("reported %+v, %v", got, err)
	}
}

func mirrorOf(t *testing.T, data string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(data, "0", "mirrors", "shop", "*.git"))
	if err != nil || len(found) != 1 {
		t.Fatalf("mirrors %v, %v", found, err)
	}
	return found[0]
}

// What an outside owner of the phase says moves nothing here.
func TestAnOutsideOwnersFactsAskForNothing(t *testing.T) {
	t.Parallel()
	o := textOrigin(t)
	p := project(o)
	m := newShift(t, builder.Options{}, p).pipeline(t, find(o.commit(t, "find", map[string]string{"more": "text\n"}))).Lemnis.Merge
	before := o.head(t, "main")
	p.Owners = map[events.Phase]string{events.Integrate: "jenkins"}
	s := newShift(t, builder.Options{}, p)
	for effect, content := range map[string]any{
		"pipeline": events.PipelineRunQueued{Lemnis: events.RunDetail{Merge: m}}, "merge": events.QueueTested{Merge: m},
		"package": events.BuildQueued{Lemnis: events.BuildDetail{Service: "api", Merge: m}},
	} {
		if got, err := s.work(t, effect, "7", 1, content); err != nil || got != nil {
			t.Errorf("%s reported %+v, %v", effect, got, err)
		}
	}
	if o.head(t, "main") != before {
		t.Error("main moved")
	}
}

// A step reads a file that it does not name, and a change has it say something else: what its run left is neither the master copy's nor another
// change's. What the master copy's own run left is taken by what is made upon it, and what was merged is not run again.
func TestAChangeDoesNotLeaveResultsForTheMasterCopy(t *testing.T) {
	t.Parallel()
	o := emptyOrigin(t)
	o.commit(t, "main", map[string]string{"in": "1", "hidden": "good", ".lemnis.yaml": `steps: [{name: a, run: "cp hidden bin", inputs: [in], outputs: [bin]}]
package: {executable: bin}
`})
	p, options := project(o), builder.Options{Data: t.TempDir(), Registry: ociRegistry(t)}
	change := func(branch string, files map[string]string) events.MergeDetail {
		m := find(o.commit(t, branch, files))
		m.Change, m.Branch = branch, branch
		return m
	}
	run := func(what string, m events.MergeDetail, reused string) events.MergeDetail {
		t.Helper()
		got := newShift(t, options, p).pipeline(t, m)
		if e := got.Lemnis.Merge.Evidence; got.Outcome != events.Success || e == nil || strings.Join(e.Reused, " ") != reused {
			t.Fatalf("%s: %s %s %+v", what, got.Outcome, got.Errors, e)
		}
		return got.Lemnis.Merge
	}
	pack := func(what string, m events.MergeDetail, reused, content string) {
		t.Helper()
		m.Evidence = nil
		got, err := newShift(t, options, p).work(t, "package", "7", 1, events.BuildQueued{Lemnis: events.BuildDetail{Service: "api", Merge: m}})
		end, is := got.(events.BuildFinished)
		if err != nil || !is || end.Lemnis.Outcome != events.Success || strings.Join(end.Lemnis.Merge.Evidence.Reused, " ") != reused {
			t.Fatalf("%s: %v %+v", what, err, got)
		}
		if want := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content))); end.Lemnis.Digest != want {
			t.Errorf("%s: packaged %s, want %s", what, end.Lemnis.Digest, want)
		}
	}
	hostile := change("hostile", map[string]string{"hidden": "evil"})
	run("a hostile change", hostile, "")
	run("another change", change("other", map[string]string{"more": "text"}), "")
	pack("the master copy", events.MergeDetail{Repository: "api", Base: "main"}, "", "good")
	later := run("a change upon it", change("later", map[string]string{"yet": "text"}), "a")
	run("the hostile one again: the same tree", hostile, "a")
	if got, err := newShift(t, options, p).work(t, "merge", "later", 1, events.QueueTested{Merge: later}); err != nil || o.head(t, "main") != later.Commit {
		t.Fatalf("%+v, %v", got, err)
	}
	pack("what was merged", later, "a", "good")
	run("what is made upon that", change("last", map[string]string{"last": "text"}), "a")
}

// Another worker on the same data takes what was found out, and says so.
func TestAnUnchangedCommitIsNotRunAgain(t *testing.T) {
	t.Parallel()
	o := goOrigin(t)
	p, options := project(o), builder.Options{Data: t.TempDir()}
	change := find(o.commit(t, "find", map[string]string{"NOTES": "text\n"}))
	first := newShift(t, options, p).pipeline(t, change)
	again := newShift(t, options, p).pipeline(t, change)
	a, b := first.Lemnis.Merge.Evidence, again.Lemnis.Merge.Evidence
	if again.Outcome != events.Success || a == nil || b == nil || len(a.Reused) > 0 || strings.Join(b.Reused, " ") != "compile test package" {
		t.Fatalf("%+v, then %s %+v", a, again.Outcome, b)
	}
	if a.Tests != 1 || a.Tests != b.Tests || a.Coverage != b.Coverage || a.Changed == nil || *a.Changed != *b.Changed {
		t.Errorf("%+v, then %+v", a, b)
	}
}

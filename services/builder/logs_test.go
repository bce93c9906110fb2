package builder_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
	"github.com/lemnis/lemnis/internal/runlog"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/builder"
)

// What the steps of a run print is kept for whoever asks, by step; the evidence says where it is, and what it is.
func TestLogIsKept(t *testing.T) {
	_, _, js := natsdtest.Start(t)
	logs, o := runlog.New(js), goOrigin(t)
	s := newShift(t, builder.Options{Logs: logs}, project(o))
	evidence := s.pipeline(t, find(o.commit(t, "find", map[string]string{"more.go": "package main\n"}))).Lemnis.Merge.Evidence
	of := keptAs(t, logs, "7#1", evidence)
	if !strings.Contains(of["compile"], "go build") || !strings.Contains(of["test"], "PASS") {
		t.Errorf("the log is %q", of)
	}
}

// keptAs is the log of a run by step; it is whole, and the one that the evidence names.
func keptAs(t *testing.T, logs *runlog.Store, key string, evidence *events.Evidence) map[string]string {
	t.Helper()
	run := runlog.Run{Project: "shop", Kind: runlog.Pipeline, Key: key}
	last, err := logs.Find(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	if last.Kept == nil || evidence.Log != run.Path() || evidence.Digest != last.Kept.Digest {
		t.Errorf("evidence %s %s, kept %+v", evidence.Log, evidence.Digest, last.Kept)
	}
	return readLog(t, logs, last)
}

func readLog(t *testing.T, logs *runlog.Store, last runlog.Last) map[string]string {
	t.Helper()
	of := map[string]string{}
	if err := logs.Read(t.Context(), last, false, func(step string, text []byte) error { of[step] += string(text); return nil }); err != nil {
		t.Fatal(err)
	}
	return of
}

// train is what asks for the run of a train of one change.
func train(m events.MergeDetail) events.PipelineRunQueued {
	return events.PipelineRunQueued{PipelineName: "merge", Lemnis: events.RunDetail{Merge: m, Changes: []events.MergeDetail{m}}}
}

// When the tests of a train fail, and pass when they are run again, the log has both: why they failed is what whoever mends them asks.
func TestLogOfTestsThatAreRunAgain(t *testing.T) {
	t.Parallel()
	_, _, js := natsdtest.Start(t)
	logs, o, once := runlog.New(js), emptyOrigin(t), filepath.Join(t.TempDir(), "once")
	o.commit(t, "main", map[string]string{".lemnis.yaml": fmt.Sprintf("steps:\n  - name: test\n    run: |\n      test -e %[1]s || fails='not '\n"+
		"      echo \"1..1\n      ${fails}ok 1 - once\" | sed 's/^ *//' > out.tap\n"+
		"      test -z \"$fails\" || { touch %[1]s; echo not ready; exit 1; }\n      echo ready\n    reports: {tests: [out.tap]}\n", once)})
	s := newShift(t, builder.Options{Logs: logs, Isolation: executor.None}, project(o))
	got, err := s.work(t, "pipeline", "api@1", 1, train(find(o.commit(t, "find", map[string]string{"more": "text\n"}))))
	if err != nil {
		t.Fatal(err)
	}
	finished := got.(events.PipelineRunFinished)
	evidence := finished.Lemnis.Merge.Evidence
	if finished.Outcome != events.Success || evidence == nil || len(evidence.Flaky) != 1 {
		t.Fatalf("%s %s, evidence %+v", finished.Outcome, finished.Errors, evidence)
	}
	of := keptAs(t, logs, "api@1", evidence)
	if !strings.Contains(of["test"], "not ready\n") || !strings.HasSuffix(of["test"], "\nready\n") || !strings.Contains(of[""], "tested again") {
		t.Errorf("the log is %q", of)
	}
}

// A run that is stopped, because its queue has no use for it any more, has a log that ends and says so: whoever follows it is not kept
// waiting. So has one whose worker was lost before.
func TestLogOfARunThatIsStopped(t *testing.T) {
	t.Parallel()
	_, _, js := natsdtest.Start(t)
	logs, o, begun := runlog.New(js), emptyOrigin(t), filepath.Join(t.TempDir(), "begun")
	o.commit(t, "main", map[string]string{".lemnis.yaml": "steps:\n  - name: test\n    run: echo waiting; touch " + begun + "; sleep 600\n"})
	p, queued := project(o), train(find(o.commit(t, "find", map[string]string{"more": "text\n"})))
	d := builder.New(builder.Options{Data: t.TempDir(), Logs: logs, Isolation: executor.None})
	over := events.Event{Project: p.Name, Key: "api", Kind: events.Stated, Content: events.QueuePlanned{Repository: "api", Begun: []events.QueueRun{{Number: 1}}}}
	tell(d, over)
	work := func(attempt uint64, report func(content any)) {
		t.Helper()
		fact := events.Event{Project: p.Name, Key: "api@1", Kind: events.Stated, Content: queued}
		err := effectOf(d, "pipeline")(t.Context(), service.NewJob(fact, p, attempt, func(_ context.Context, r service.Report) error { report(r.Content); return nil }))
		if err != nil {
			t.Fatal(err)
		}
	}
	run := runlog.Run{Project: p.Name, Kind: runlog.Pipeline, Key: "api@1"}
	over.Content = events.QueuePlanned{Repository: "api", Over: []int{1}}
	work(1, func(content any) {
		if _, is := content.(events.PipelineRunStarted); !is {
			t.Errorf("it was stopped, and says %T", content)
		}
		go func() {
			for t.Context().Err() == nil {
				if there, _ := filepath.Glob(begun); len(there) > 0 {
					tell(d, over)
					return
				}
			}
		}()
	})
	last, err := logs.Find(t.Context(), run)
	if err != nil || last.Kept == nil {
		t.Fatalf("its log has no end: %+v, %v", last, err)
	}
	if of := readLog(t, logs, last); !strings.Contains(of["test"], "waiting") || !strings.Contains(of[""], "has no use for this run") {
		t.Errorf("its log is %q", of)
	}

	lost := logs.Write(t.Context(), run, 2)
	_ = lost.Print("test", []byte("lost"))
	lost.Close(false)
	work(3, func(content any) { t.Errorf("a run that is over says %T", content) })
	if last, err := logs.Find(t.Context(), run); err != nil || last.Kept == nil || last.Attempt != 3 {
		t.Errorf("the log of a lost worker's run has no end: %+v, %v", last, err)
	}
	work(4, func(content any) { t.Errorf("a run that is over says %T", content) })
	if last, err := logs.Find(t.Context(), run); err != nil || last.Attempt != 3 {
		t.Errorf("a log that is whole was begun anew: %+v, %v", last, err)
	}
}

// tell gives a fact to the read models.
func tell(definitions []service.Definition, e events.Event) {
	e.Type = events.TypeOf(e.Content)
	for _, d := range definitions {
		for _, p := range d.Projections {
			for _, on := range p.On {
				if on == e.Type {
					p.Apply(e)
				}
			}
		}
	}
}

func effectOf(definitions []service.Definition, name string) func(context.Context, *service.Job) error {
	for _, d := range definitions {
		for _, e := range d.Effects {
			if e.Name == name {
				return e.Do
			}
		}
	}
	return nil
}

// Work that ends whoever begins it ends with a log that says so.
func TestLogOfARunThatIsGivenUp(t *testing.T) {
	t.Parallel()
	_, _, js := natsdtest.Start(t)
	logs, o := runlog.New(js), textOrigin(t)
	p, m := project(o), find(o.commit(t, "find", map[string]string{"more": "text\n"}))
	d := builder.New(builder.Options{Data: t.TempDir(), Logs: logs})
	for effect, asks := range map[string]struct {
		run     runlog.Run
		content any
	}{
		"pipeline": {runlog.Run{Project: p.Name, Kind: runlog.Pipeline, Key: "7#1"}, events.PipelineRunQueued{Lemnis: events.RunDetail{Merge: m}}},
		"package":  {runlog.Run{Project: p.Name, Kind: runlog.Build, Key: "7#1"}, events.BuildQueued{Lemnis: events.BuildDetail{Merge: m}}},
	} {
		lost := logs.Write(t.Context(), asks.run, 1)
		_ = lost.Print("test", []byte("lost"))
		lost.Close(false)
		fact := events.Event{Project: p.Name, Key: "7#1", Kind: events.Stated, Content: asks.content}
		job := service.NewJob(fact, p, 2, func(context.Context, service.Report) error { return nil })
		job.Tries = 21
		if err := effectOf(d, effect)(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		last, err := logs.Find(t.Context(), asks.run)
		if err != nil || last.Kept == nil {
			t.Fatalf("%s: its log has no end: %+v, %v", effect, last, err)
		}
		if of := readLog(t, logs, last); !strings.Contains(of[""], "no builder that began it lived to tell") {
			t.Errorf("%s: its log is %q", effect, of)
		}
	}
}

// A condition about paths is about what the change touches: added, rewritten, moved and removed files, not what the master copy got meanwhile.
func TestPathsAreWhatAChangeTouches(t *testing.T) {
	t.Parallel()
	_, _, js := natsdtest.Start(t)
	logs, o := runlog.New(js), emptyOrigin(t)
	o.commit(t, "main", map[string]string{"docs/a.md": "a", "gone.txt": "1", "old.txt": "long enough to be found again\n", "same.txt": "1", ".lemnis.yaml": `steps:
  - {name: always, run: echo ran, needs: []}
  - {name: docs, run: echo ran, needs: [], when: 'paths.exists(p, p.startsWith("docs/"))'}
  - {name: removed, run: echo ran, needs: [], when: '"gone.txt" in paths'}
  - {name: moved, run: echo ran, needs: [], when: '"old.txt" in paths && "new.txt" in paths'}
  - {name: same, run: echo ran, needs: [], when: '"same.txt" in paths || "later.txt" in paths'}
`})
	heads := map[string]string{
		"docs":          o.commit(t, "docs", map[string]string{"docs/a.md": "b"}),
		"removed moved": "",
		"":              o.commit(t, "none", map[string]string{"another": "1"}),
	}
	o.git(t, "commit refs/heads/moved\ncommitter Ann <ann@example.org> 1700000000 +0000\ndata 4\nWork\nfrom refs/heads/main^0\nD gone.txt\nR old.txt new.txt\n", "fast-import", "--quiet", "--force")
	heads["removed moved"] = o.head(t, "moved")
	branches := map[string]string{"docs": "docs", "removed moved": "moved", "": "none"}
	o.commit(t, "main", map[string]string{"later.txt": "1", "docs/later.md": "1"})
	n := 0
	for want, head := range heads {
		for kind, ask := range map[string]func(events.MergeDetail) events.PipelineRunQueued{
			"alone": func(m events.MergeDetail) events.PipelineRunQueued {
				return events.PipelineRunQueued{PipelineName: "merge", Lemnis: events.RunDetail{Merge: m}}
			},
			"in the queue": train,
		} {
			m := find(head)
			m.Branch = branches[want]
			s := newShift(t, builder.Options{Logs: logs, Isolation: executor.None}, project(o))
			n++
			key := fmt.Sprintf("api@%d", n)
			got, err := s.work(t, "pipeline", key, 1, ask(m))
			if err != nil {
				t.Fatal(err)
			}
			finished, _ := got.(events.PipelineRunFinished)
			if finished.Outcome != events.Success {
				t.Fatalf("%s %s: %+v", m.Branch, kind, finished)
			}
			of, ran := keptAs(t, logs, key, finished.Lemnis.Merge.Evidence), "always "+want
			for _, step := range []string{"always", "docs", "removed", "moved", "same"} {
				if is := strings.Contains(of[step], "ran"); is != strings.Contains(ran, step) {
					t.Errorf("%s %s: step %s was run: %v", m.Branch, kind, step, is)
				}
			}
		}
	}
}

package integration_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/pkg/events"
)

// The builder, a process of its own beside bus, planner and gateway, is killed in each phase of a train, and another goes on: while it surveys,
// when it has planned, in the pipeline, when the master copy has moved and it does not know yet, and while it packages. Each run ends once, main
// moves once for each train, and each train is one artifact.
func TestTrainsOverKills(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in short mode: takes a minute, so nothing was killed")
	}
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	nats, http := freePort(t), freePort(t)
	start(t, filepath.Join(dir, "nats-server"), nil, "-js", "-sd", filepath.Join(data, "nats"), "-a", "127.0.0.1", "-p", fmt.Sprint(nats))
	url := fmt.Sprintf("http://127.0.0.1:%d", http)
	run := func(name, health string) *program {
		p := start(t, filepath.Join(dir, "lemnis-"+name), []string{fmt.Sprintf("LEMNIS_NATS_URL=nats://127.0.0.1:%d", nats), "LEMNIS_REGISTRY_URL=" + url,
			"LEMNIS_SECRETS_DIR=" + filepath.Join(data, "secrets"), "LEMNIS_DATA=" + filepath.Join(data, name), "LEMNIS_HTTP=" + health, "LEMNIS_PIPELINES=2"})
		answers(t, "http://"+health+"/readyz", p)
		return p
	}
	run("gateway", fmt.Sprintf("127.0.0.1:%d", http))
	run("planner", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	builder := run("builder", fmt.Sprintf("127.0.0.1:%d", freePort(t)))

	repository := bare{filepath.Join(t.TempDir(), "api.git")}
	repository.git(t, "", "init", "--quiet", "--bare", "--initial-branch=main", repository.dir)
	repository.commit(t, "main", ".lemnis.yaml", "steps:\n  - name: make\n    run: |\n      mkdir out\n      echo '#!/bin/sh' > out/api\n      ls -R . >> out/api\n      chmod 755 out/api\n      sleep 0.5\n"+
		"    outputs: [out/api]\npackage:\n  executable: out/api\n")
	// Who pushes is told a while after main has moved.
	if err := os.WriteFile(filepath.Join(repository.dir, "hooks", "post-receive"), []byte("#!/bin/sh\nexec sleep 2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	client := api.New(url)
	defer client.Close()
	p := events.DefaultProject("line")
	p.Repositories = []events.RepositoryRef{{Name: "api", URL: repository.dir}}
	p.Queue = &events.QueuePolicy{Slots: 2}
	changes := 8
	for n := range changes {
		p.Queue.Lanes = append(p.Queue.Lanes, fmt.Sprintf("d%d", n))
	}
	if _, err := client.Apply(t.Context(), p, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	for n := range changes {
		id := fmt.Sprintf("c%d", n)
		head := repository.commit(t, id, fmt.Sprintf("d%d/%s", n, id), id)
		for _, content := range []any{
			events.ChangeCreated{Lemnis: events.ChangeDetail{Repository: "api", Title: id, Branch: id, Head: head, Author: "ann"}},
			events.ChangeReviewed{Lemnis: events.Review{Reviewer: "bo", Verdict: events.Approved, Head: head}},
		} {
			if _, err := client.Claim(t.Context(), events.Event{ID: fmt.Sprintf("%s %T", id, content), Source: "/test", Type: events.TypeOf(content), Time: time.Now(),
				Project: p.Name, SubjectID: id, Content: content}, 30*time.Second); err != nil {
				t.Fatal(err)
			}
		}
	}

	train := ""  // change at the end of the one that the builder dies with
	landed := "" // commit
	moments := []struct {
		name string
		is   func(events.Event) bool
	}{
		{"while it surveys a change", func(e events.Event) bool { _, is := e.Content.(events.QueueEntered); return is }},
		{"as it has planned a run", func(e events.Event) bool { c, is := e.Content.(events.QueuePlanned); return is && len(c.Begun) > 0 }},
		{"while it tests a train", func(e events.Event) bool {
			c, is := e.Content.(events.PipelineRunStarted)
			return is && len(c.Lemnis.Changes) > 1
		}},
		{"when main has moved, and it does not know", func(e events.Event) bool {
			c, is := e.Content.(events.QueuePlanned)
			if !is || len(c.Merged) < 2 {
				return false
			}
			end := c.Merged[len(c.Merged)-1]
			train, landed = end.Change, end.Commit
			return within(t, 20*time.Second, func() bool { return repository.git(t, "", "rev-parse", "main") == landed })
		}},
		{"while it packages the train", func(e events.Event) bool {
			c, is := e.Content.(events.BuildStarted)
			return is && c.Lemnis.Merge.Change == train
		}},
	}
	var all []events.Event
	in, out, published, killed := map[string]int{}, map[string]string{}, map[string]int{}, 0
	done := errors.New("done")
	limited, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	err = client.Follow(limited, api.Query{Project: p.Name}, func(e events.Event) error {
		all = append(all, e)
		if e.Kind != events.Stated {
			return nil
		}
		if killed < len(moments) && moments[killed].is(e) {
			builder.kill()
			t.Logf("killed %s", moments[killed].name)
			killed++
			builder = run("builder", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
		}
		switch c := e.Content.(type) {
		case events.ChangeMerged:
			in[c.Lemnis.Commit]++
		case events.QueueEjected:
			out[e.Key] = c.Reason
		case events.ArtifactPublished:
			published[c.Lemnis.Commit]++
		}
		merged := 0
		for _, n := range in {
			merged += n
		}
		if merged == changes && len(published) == len(in) {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Fatalf("%v: merged %v, left %v, published %v", err, in, out, published)
	}
	if killed != len(moments) || len(out) > 0 {
		t.Errorf("killed %d times, want %d; left %v", killed, len(moments), out)
	}
	onceEach(t, all)
	for commit, n := range published {
		if n != 1 {
			t.Errorf("%d artifacts of %s are published", n, commit)
		}
	}
	if got := repository.git(t, "", "rev-list", "--merges", "--count", "main"); got != fmt.Sprint(changes) {
		t.Errorf("main has %s merges", got)
	}
	for commit := range in {
		if published[commit] != 1 {
			t.Errorf("of %s %d artifacts are published", commit, published[commit])
		}
	}
}

// onceEach checks that no aggregate states two facts for a cause, that each run and build ends once, and that each change is merged once.
func onceEach(t *testing.T, all []events.Event) {
	t.Helper()
	seen := map[string]bool{}
	once := func(what string) {
		if seen[what] {
			t.Errorf("twice: %s", what)
		}
		seen[what] = true
	}
	for _, e := range all {
		if e.Kind != events.Stated {
			continue
		}
		if e.Aggregate != "" {
			once(fmt.Sprintf("%s %s/%s of %d", e.Phase, e.Aggregate, e.Key, e.CauseSequence))
		}
		switch e.Content.(type) {
		case events.PipelineRunFinished, events.BuildFinished, events.ChangeMerged:
			once(e.Type.Short() + " " + e.Key)
		}
	}
}

// within waits until something is so; false when it is not after a time.
func within(t *testing.T, most time.Duration, is func() bool) bool {
	t.Helper()
	deadline := time.After(most)
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		if is() {
			tick.Stop()
			return true
		}
		select {
		case <-tick.C:
		case <-deadline:
			return false
		}
	}
}

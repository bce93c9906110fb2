package builder_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder"
)

// Under this variable the test binary is a builder in a process of its own, to be killed.
const victim = "LEMNIS_TEST_BUILDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victim); dir != "" {
		os.Exit(toil(dir))
	}
	os.Exit(m.Run())
}

// toil runs the pipeline and the merge on the repository <dir>/api.git.
func toil(dir string) int {
	p := project(origin{filepath.Join(dir, "api.git")})
	attempt, err := strconv.ParseUint(os.Getenv(victim+"_ATTEMPT"), 10, 64)
	must(err)
	var end events.PipelineRunFinished
	report := func(_ context.Context, r service.Report) error {
		if c, ok := r.Content.(events.PipelineRunFinished); ok {
			end = c
		}
		return nil
	}
	effects := builder.New(builder.Options{Data: filepath.Join(dir, "data")})[1].Effects
	for _, e := range effects[:2] { // pipeline, merge
		var content any = events.PipelineRunQueued{Lemnis: events.RunDetail{Merge: find(os.Getenv(victim + "_HEAD"))}}
		if e.Name == "merge" {
			if end.Outcome != events.Success {
				return 0 // one that was killed earlier had merged already
			}
			content = events.QueueTested{Merge: end.Lemnis.Merge}
		}
		fact := events.Event{Project: p.Name, Key: "7#1", Content: content}
		must(e.Do(context.Background(), service.NewJob(fact, p, attempt, report)))
	}
	return 0
}

// Killed while it checks out, compiles, tests, merges: the next one on the same folder starts
// clean, and ends with the same commit.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	o := emptyOrigin(t)
	o.commit(t, "main", map[string]string{"go.mod": module["go.mod"], "a.go": "package api\n", "a_test.go": "package api\n\nimport \"testing\"\n\nfunc TestA(*testing.T) {}\n"})
	head := o.commit(t, "find", map[string]string{"b.go": "package api\n"})
	dir := filepath.Dir(o.dir)
	data := filepath.Join(dir, "data")
	moments := []func() bool{
		func() bool { return exists(filepath.Join(data, "0", "mirrors")) },
		func() bool { return some(filepath.Join(data, "0", "work", "*", "tree", "*")) },
		func() bool { return some(filepath.Join(data, "0", "work", "*", "out", "build.log")) },
		func() bool { return some(filepath.Join(data, "0", "work", "*", "out", "cover.out")) },
		func() bool { return o.head(t, "main") != o.git(t, "", "rev-parse", "refs/heads/find^") },
	}
	for i, moment := range moments {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), victim+"="+dir, victim+"_HEAD="+head, victim+"_ATTEMPT="+strconv.Itoa(i+1))
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		died := make(chan struct{})
		go func() { _ = cmd.Wait(); close(died) }()
		poll := time.NewTicker(time.Millisecond)
		deadline := time.After(time.Minute)
	watch:
		for !moment() {
			select {
			case <-poll.C:
			case <-died:
				break watch // it was faster than the watcher: dead all the same
			case <-deadline:
				t.Errorf("moment %d does not come", i)
				break watch
			}
		}
		poll.Stop()
		_ = cmd.Process.Kill()
		<-died
		endSession(t, cmd.Process.Pid)
	}
	s := newShift(t, builder.Options{Data: data}, project(o))
	end := s.pipeline(t, find(head))
	commit := o.head(t, "main")
	merged := o.git(t, "", "rev-list", "--merges", "--count", "main")
	if merged != "1" || !has(end.Errors, "part of main already") {
		t.Fatalf("%s merges; the run ended with %q", merged, end.Errors)
	}
	m := find(head)
	m.Onto, m.Commit = o.git(t, "", "rev-parse", "main^1"), commit
	got, err := s.work(t, "merge", "7", 9, events.QueueTested{Merge: m})
	if c, ok := got.(events.ChangeMerged); err != nil || !ok || c.Lemnis.Commit != commit {
		t.Fatalf("reported %+v, %v", got, err)
	}
	for end := time.Now().Add(time.Minute); some(filepath.Join(data, "0", "work", "*")); runtime.Gosched() { // it is removed while nobody waits
		if time.Now().After(end) {
			t.Fatal("a room is left behind")
		}
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

func some(pattern string) bool {
	found, err := filepath.Glob(pattern)
	return err == nil && len(found) > 0
}

// endSession ends what a killed builder had started and waits until it is gone: its git and go
// commands are in groups of their own, in the builder's session.
func endSession(t *testing.T, session int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		left := 0
		stats, err := filepath.Glob("/proc/[0-9]*/stat")
		if err != nil || len(stats) == 0 {
			t.Skip("SKIPPED: what becomes of a killed builder's run was NOT shown: no /proc to find its commands in")
		}
		for _, stat := range stats {
			text, err := os.ReadFile(stat)
			if errors.Is(err, fs.ErrNotExist) || err != nil {
				continue // gone in the meantime
			}
			_, after, _ := strings.Cut(string(text), ") ") // pid (name) state ppid pgrp session …
			field := strings.Fields(after)
			if len(field) < 4 || field[3] != strconv.Itoa(session) || field[0] == "Z" {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
			if err == nil {
				left++
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d commands of the killed builder still run", left)
		}
	}
}

package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// plumb runs git on a repository for a test.
func plumb(t *testing.T, dir, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=Ann", "-c", "user.email=ann@example.org", "--git-dir=" + dir}, args...)...)
	cmd.Env, cmd.Stdin = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1"), strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// small is a bare repository of one commit, and that.
func small(t *testing.T) (*Repository, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "origin.git")
	plumb(t, dir, "", "init", "--quiet", "--bare", "--initial-branch=main", dir)
	id := plumb(t, dir, "one", "commit-tree", plumb(t, dir, "", "mktree"))
	plumb(t, dir, "", "update-ref", "refs/heads/main", id)
	r, err := Open(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return r, id
}

func waiting(r *Repository) (all []*objects) {
	idle.mu.Lock()
	defer idle.mu.Unlock()
	for _, o := range idle.all {
		if o.of == r {
			all = append(all, o)
		}
	}
	return all
}

func TestOneProcessAnswersManyQuestions(t *testing.T) {
	r, id := small(t)
	resolve := func() {
		t.Helper()
		if got, err := r.Resolve(t.Context(), "main"); err != nil || got != id {
			t.Fatalf("%q %v", got, err)
		}
	}
	resolve()
	first := waiting(r)
	if len(first) != 1 {
		t.Fatalf("%d wait", len(first))
	}
	if _, err := r.Resolve(t.Context(), "none"); err == nil {
		t.Error("a branch that is not there was found")
	}
	if resolve(); !reflect.DeepEqual(waiting(r), first) {
		t.Error("another one was asked")
	}
	// What comes meanwhile is seen.
	next := plumb(t, r.dir, "two", "commit-tree", plumb(t, r.dir, "", "mktree"))
	plumb(t, r.dir, "", "update-ref", "refs/heads/main", next)
	plumb(t, r.dir, "", "gc", "--quiet", "--prune=now")
	if id = next; waiting(r)[0] != first[0] {
		t.Error("it was ended")
	}
	resolve()

	pid := first[0].cmd.Process.Pid
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if resolve(); len(waiting(r)) != 1 || waiting(r)[0] == first[0] {
		t.Error("the one that died is kept")
	}
	last := waiting(r)[0]
	idle.retire(last)
	if len(waiting(r)) > 0 || last.cmd.ProcessState == nil {
		t.Error("it does not end")
	}
	idle.retire(last) // its time passes again: it is another's
	resolve()
}

// What a process says wrong ends it, and what it complained of is told.
func TestABrokenObjectIsTold(t *testing.T) {
	r, id := small(t)
	if err := os.Remove(filepath.Join(r.dir, "objects", id[:2], id[2:])); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "objects", id[:2], id[2:]), []byte("no object"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Commits(t.Context(), id); err == nil {
		t.Error("it was read")
	} else {
		t.Log(err)
	}
	if len(waiting(r)) > 0 {
		t.Error("one that complained is kept")
	}
}

// One that complains much is not stopped by what nobody reads, and one that complained is not kept.
func TestComplaintsAreRead(t *testing.T) {
	r, id := small(t)
	tree := plumb(t, r.dir, "", "rev-parse", id+"^{tree}")
	for _, times := range []int{1, 1000} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := r.ask(ctx, func(a *answers) error {
			o, err := a.git()
			if err != nil {
				return err
			}
			for range times {
				if _, err := o.info(tree + "^{commit}"); !errors.Is(err, ErrNotFound) {
					return fmt.Errorf("a tree is a commit: %w", err)
				}
			}
			return nil
		})
		if err != nil || len(waiting(r)) > 0 {
			t.Errorf("%d: %v, kept %d", times, err, len(waiting(r)))
		}
		cancel()
	}
}

// One that was asked much or lives for long has much in memory.
func TestAProcessIsNotAskedForEver(t *testing.T) {
	r, id := small(t)
	ask := func(times int) {
		t.Helper()
		if err := r.ask(t.Context(), func(a *answers) error {
			o, err := a.git()
			if err != nil {
				return err
			}
			for range times {
				if _, err := o.info(id); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if ask(mostAsked / 2); len(waiting(r)) != 1 {
		t.Fatalf("%d wait", len(waiting(r)))
	}
	if ask(mostAsked / 2); len(waiting(r)) > 0 {
		t.Error("one that was asked much is kept")
	}
	ask(1)
	waiting(r)[0].begun = time.Now().Add(-mostAge - time.Second)
	if ask(1); len(waiting(r)) > 0 {
		t.Error("an old one is kept")
	}
}

// Who gives up waits for no process that hangs, not even when it is asked whether it lives.
func TestAProcessThatHangsEndsWithTheQuestion(t *testing.T) {
	r, _ := small(t)
	if _, err := r.Resolve(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(waiting(r)[0].cmd.Process.Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := r.Resolve(ctx, "main"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestSoManyProcessesWaitAtMost(t *testing.T) {
	for range keptIdle + 2 {
		r, _ := small(t)
		if _, err := r.Resolve(t.Context(), "main"); err != nil {
			t.Fatal(err)
		}
	}
	idle.mu.Lock()
	defer idle.mu.Unlock()
	if len(idle.all) != keptIdle {
		t.Errorf("%d wait", len(idle.all))
	}
}

// What is out of the ordinary is git's to read and to write: what is read and written here is the same as git's.
func TestCommitsAreReadAndWrittenAsGitDoes(t *testing.T) {
	r, id := small(t)
	tree := plumb(t, r.dir, "", "rev-parse", id+"^{tree}")
	commit := func(head, message string) string {
		return plumb(t, r.dir, "tree "+tree+"\n"+head+"\n"+message, "hash-object", "-t", "commit", "-w", "--literally", "--stdin")
	}
	const ann = "Ann <ann@example.org> 1700000000 +0100\n"
	ordinary := 0
	for _, id := range []string{
		commit("author "+ann+"committer "+ann, "plain\n"),
		commit("parent "+id+"\nparent "+id+"\nauthor "+ann+"committer Bob <> 12 -0330\ngpgsig -----BEGIN\n author x\n \n end\n", "\n\nsigned\n\nbody\n\n\n"),
		commit("author Änn Ö. <a@b> 1700000000 +0000\ncommitter "+ann, ""),
		commit("author "+ann+"committer "+ann+"encoding ISO-8859-1\n", "na\xefve\n"),
		commit("author  two  spaces  <a@b> 1 +0000\ncommitter "+ann, "x"),
		commit("author <a@b> 1 +0000\ncommitter "+ann, "x"),
		commit("author A <a@b> <c> 1 +0000\ncommitter "+ann, "x"),
		commit("author A <a@b> 99999999999999999999 +0000\ncommitter "+ann, "x"),
		commit("author A <a@b>\ncommitter "+ann, "x"),
		commit("committer "+ann, "x"),
	} {
		want, errWant := r.log(t.Context(), "--no-walk", id)
		got, err := r.Commits(t.Context(), id)
		if err != nil || errWant != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v %v\nwant\n%+v %v", got, err, want, errWant)
		}
		if text, err := contentOf(t, r, id); err != nil {
			t.Error(err)
		} else if _, is := readCommit(id, text); is {
			ordinary++
		}
	}
	if ordinary < 3 {
		t.Errorf("only %d are read without git", ordinary)
	}

	mirror, err := Open(t.Context(), filepath.Join(t.TempDir(), "mirror.git"), r.dir)
	if err != nil {
		t.Fatal(err)
	}
	plainly := 0
	for i, m := range []Merge{
		{Message: "Merge\n", Author: Identity{"Ann", "ann@example.org"}},
		{Message: "Merge ✓\n\nlong: " + strings.Repeat("é", 5000), Author: Identity{"Änn \"x\" Ö", "ann@example.org"}},
		{Message: "x", Author: Identity{"Ann.", "ann@example.org"}},
		{Message: "bad \xff bytes\n", Author: Identity{"Ann", "ann@example.org"}},
		{Message: "no character \ufffe\n", Author: Identity{"Ann", "ann@example.org"}},
		{Message: "x\n", Author: Identity{" Ann ", "'ann@example.org'"}},
		{Message: "x\n", Author: Identity{"An\x01n", "ann@example.org"}},
		{Message: "x\n", Author: Identity{"Ann", "ann@example.org"}, Time: time.Unix(1234, 0)},
		{Message: "", Author: Identity{"Ann", "ann@example.org"}},
	} {
		m.Tree, m.Base, m.Head, m.Committer = tree, id, commit("author "+ann+"committer "+ann, fmt.Sprint(i)), Identity{"Lemnis", "builder@lemnis.invalid"}
		if m.Time.IsZero() {
			m.Time = time.Unix(1_700_000_000, 0)
		}
		want, errWant := r.CommitMerge(t.Context(), m) // in place: by git
		got, err := mirror.CommitMerge(t.Context(), m)
		if (err == nil) != (errWant == nil) || got != want {
			t.Errorf("%d: %s %v, want %s %v", i, got, err, want, errWant)
		}
		if _, plain := m.render(); plain {
			plainly++
			if err == nil && plumb(t, mirror.dir, "", "cat-file", "-t", got) != "commit" {
				t.Errorf("%d: git does not find it", i)
			}
		}
	}
	if plainly < 2 {
		t.Errorf("only %d are written without git", plainly)
	}
}

func contentOf(t *testing.T, r *Repository, id string) (text []byte, err error) {
	t.Helper()
	err = r.ask(t.Context(), func(a *answers) error {
		text, err = a.content(id, "commit", mostCommit)
		return err
	})
	return text, err
}

// A process that told much has much in memory, however few questions it was asked.
func TestAProcessThatToldMuchIsNotKept(t *testing.T) {
	r, _ := small(t)
	const size = mostLoose + 1 // read by git
	id := plumb(t, r.dir, strings.Repeat("x", size), "hash-object", "-w", "--stdin")
	ask := func(times int) {
		t.Helper()
		if err := r.ask(t.Context(), func(a *answers) error {
			for range times {
				if _, err := a.content(id, "blob", size); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if ask(mostTold/size - 1); len(waiting(r)) != 1 {
		t.Fatalf("%d wait", len(waiting(r)))
	}
	if args := waiting(r)[0].cmd.Args; !strings.Contains(strings.Join(args, " "), " core.deltaBaseCacheLimit=8m ") {
		t.Errorf("it keeps deltas by git's own measure: %q", args)
	}
	if ask(2); len(waiting(r)) > 0 {
		t.Error("one that told much is kept")
	}
}

// Where the kernel gives pipes of one page, a checkout does not wait for a process that waits for it.
func TestACheckoutThroughSmallPipes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "origin.git")
	plumb(t, dir, "", "init", "--quiet", "--bare", "--object-format=sha256", "--initial-branch=main", dir)
	var list strings.Builder
	for n := range 300 {
		fmt.Fprintf(&list, "100644 blob %s\tf%03d\n", plumb(t, dir, fmt.Sprint(n)+strings.Repeat("x", 20_000), "hash-object", "-w", "--stdin"), n)
	}
	id := plumb(t, dir, "one", "commit-tree", plumb(t, dir, list.String(), "mktree"))
	plumb(t, dir, "", "update-ref", "refs/heads/main", id)
	plumb(t, dir, "", "gc", "--quiet")
	r, err := Open(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Resolve(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	pid := waiting(r)[0].cmd.Process.Pid
	for fd := range 2 {
		pipe, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/%d", pid, fd), []int{os.O_RDONLY, os.O_WRONLY}[fd]|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		size, err := unix.FcntlInt(pipe.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize())
		if err := errors.Join(err, pipe.Close()); err != nil || size != os.Getpagesize() {
			t.Fatalf("the pipe has %d bytes: %v", size, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	files, err := r.Checkout(ctx, id, filepath.Join(t.TempDir(), "out"))
	if err != nil || len(files) != 300 {
		t.Errorf("%d files, %v", len(files), err)
	}
	if all := waiting(r); len(all) != 1 || all[0].cmd.Process.Pid != pid {
		t.Error("another process was asked")
	}
}

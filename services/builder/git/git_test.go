package git_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lemnis/lemnis/services/builder/git"
)

var (
	when = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ann  = git.Identity{Name: "Ann", Email: "ann@example.org"}
)

// fixture is a real bare repository with main and three branches of it.
type fixture struct {
	dir string
	ids map[string]string
}

func host(t *testing.T, dir, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=Ann", "-c", "user.email=ann@example.org", "--git-dir=" + dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_DATE=1700000000 +0000", "GIT_COMMITTER_DATE=1700000000 +0000")
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func file(branch, parent, name, content string) string {
	from := ""
	if parent != "" && parent != branch { // within one stream a branch goes on by itself
		from = "from refs/heads/" + parent + "\n"
	}
	message := "Set " + name
	return fmt.Sprintf("commit refs/heads/%s\ncommitter Ann <ann@example.org> 1700000000 +0000\ndata %d\n%s\n%sM 100644 inline %s\ndata %d\n%s\n",
		branch, len(message), message, from, name, len(content), content)
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "origin.git")
	host(t, dir, "", "init", "--quiet", "--bare", "--initial-branch=main", dir)
	host(t, dir, file("main", "", "a.txt", "one\n")+file("main", "main", "dir/b.txt", "b\n")+
		file("clean", "main", "c.txt", "c\n")+
		file("clash", "main", "a.txt", "two\n")+
		file("main", "main", "a.txt", "three\n"), "fast-import", "--quiet", "--force")
	f := fixture{dir: dir, ids: map[string]string{}}
	for _, b := range []string{"main", "clean", "clash"} {
		f.ids[b] = host(t, dir, "", "rev-parse", "refs/heads/"+b)
	}
	return f
}

// both runs a test on the repository in place, and through a mirror of one that is nearby and of one that is not.
func both(t *testing.T, test func(t *testing.T, f fixture, r *git.Repository)) {
	t.Helper()
	for _, way := range []string{"in place", "nearby", "mirrored"} {
		t.Run(way, func(t *testing.T) {
			f := newFixture(t)
			dir, url := filepath.Join(t.TempDir(), "mirror.git"), f.dir
			switch way {
			case "in place":
				dir, url = f.dir, ""
			case "mirrored":
				url = far(f.dir)
			}
			r, err := git.Open(t.Context(), dir, url)
			if err != nil {
				t.Fatal(err)
			}
			test(t, f, r)
		})
	}
}

// far is the URL of a repository of this machine that only git finds.
func far(dir string) string { return "file://" + strings.TrimSuffix(dir, ".git") + "%2Egit" }

func merge(t *testing.T, r *git.Repository, base, head string) string {
	t.Helper()
	tree, conflicts, err := r.MergeTree(t.Context(), base, head)
	if err != nil || len(conflicts) > 0 {
		t.Fatalf("merge: %v %v", conflicts, err)
	}
	id, err := r.CommitMerge(t.Context(), git.Merge{Tree: tree, Base: base, Head: head,
		Message: "Merge clean\n", Author: ann, Committer: ann, Time: when})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestMergeAndAdvance(t *testing.T) {
	both(t, func(t *testing.T, f fixture, r *git.Repository) {
		ctx := t.Context()
		base, err := r.Head(ctx, "main")
		if err != nil || base != f.ids["main"] {
			t.Fatalf("head %q, %v", base, err)
		}
		commit := merge(t, r, base, f.ids["clean"])
		if again := merge(t, r, base, f.ids["clean"]); again != commit {
			t.Fatalf("the same merge gave %s and %s", commit, again)
		}
		if err := r.Advance(ctx, "main", base, commit); err != nil {
			t.Fatal(err)
		}
		if err := r.Advance(ctx, "main", base, commit); err != nil {
			t.Fatalf("repeated: %v", err)
		}
		if at := host(t, f.dir, "", "rev-parse", "refs/heads/main"); at != commit {
			t.Fatalf("origin stands at %s, not at %s", at, commit)
		}
		if in, err := r.Contains(ctx, "main", f.ids["clean"]); err != nil || !in {
			t.Fatalf("contains: %v %v", in, err)
		}
		changed, err := r.Changed(ctx, base, commit)
		if err != nil || !slices.Equal(changed, []string{"c.txt"}) {
			t.Fatalf("changed %v, %v", changed, err)
		}
		log, err := r.Log(ctx, base, commit, 0)
		if err != nil || len(log) != 2 {
			t.Fatalf("log %v, %v", log, err)
		}
		first := log[0]
		if first.ID != commit || !slices.Equal(first.Parents, []string{base, f.ids["clean"]}) ||
			first.Message != "Merge clean" || first.Author != ann || !first.Committed.Equal(when) {
			t.Fatalf("log %+v", first)
		}
	})
}

func TestConflictNamesTheFiles(t *testing.T) {
	both(t, func(t *testing.T, f fixture, r *git.Repository) {
		tree, conflicts, err := r.MergeTree(t.Context(), f.ids["main"], f.ids["clash"])
		if err != nil || tree != "" || !slices.Equal(conflicts, []string{"a.txt"}) {
			t.Fatalf("tree %q, conflicts %v, %v", tree, conflicts, err)
		}
	})
}

func TestAdvanceLost(t *testing.T) {
	both(t, func(t *testing.T, f fixture, r *git.Repository) {
		ctx := t.Context()
		base := f.ids["main"]
		commit := merge(t, r, base, f.ids["clean"])
		host(t, f.dir, file("main", "main^0", "d.txt", "d\n"), "fast-import", "--quiet")
		moved := host(t, f.dir, "", "rev-parse", "refs/heads/main")
		if err := r.Advance(ctx, "main", base, commit); !errors.Is(err, git.ErrMoved) {
			t.Fatalf("want ErrMoved, got %v", err)
		}
		if at := host(t, f.dir, "", "rev-parse", "refs/heads/main"); at != moved {
			t.Fatal("the branch was moved all the same")
		}
		if err := r.Advance(ctx, "main", base, f.ids["clash"]); !errors.Is(err, git.ErrNotForward) {
			t.Fatalf("want ErrNotForward, got %v", err)
		}
		if err := r.Advance(ctx, "gone", base, commit); !errors.Is(err, git.ErrMoved) {
			t.Fatalf("absent branch: want ErrMoved, got %v", err)
		}
	})
}

// A host that says no is told from one that could not: its own words are the reason.
func TestAdvanceRefused(t *testing.T) {
	f := newFixture(t)
	r, err := git.Open(t.Context(), filepath.Join(t.TempDir(), "mirror.git"), f.dir)
	if err != nil {
		t.Fatal(err)
	}
	hook := filepath.Join(f.dir, "hooks", "update")
	for _, err := range []error{os.MkdirAll(filepath.Dir(hook), 0o700), os.WriteFile(hook, []byte("#!/bin/sh\necho main is protected >&2\nexit 1\n"), 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	base := f.ids["main"]
	commit := merge(t, r, base, f.ids["clean"])
	if err := r.Advance(t.Context(), "main", base, commit); !errors.Is(err, git.ErrRefused) || !strings.Contains(err.Error(), "hook declined: main is protected") {
		t.Fatalf("refused: %v", err)
	}
	if err := os.Rename(f.dir, f.dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := r.Advance(t.Context(), "main", base, commit); err == nil || errors.Is(err, git.ErrRefused) {
		t.Fatalf("away: %v", err)
	}
}

// Of many that advance from the same commit, exactly one wins.
func TestAdvanceRace(t *testing.T) {
	both(t, func(t *testing.T, f fixture, r *git.Repository) {
		ctx := t.Context()
		base := f.ids["main"]
		tree, _, err := r.MergeTree(ctx, base, f.ids["clean"])
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		var lock sync.Mutex
		won := 0
		for i := range 6 {
			commit, err := r.CommitMerge(ctx, git.Merge{Tree: tree, Base: base, Head: f.ids["clean"],
				Message: fmt.Sprintf("Try %d", i), Author: ann, Committer: ann, Time: when})
			if err != nil {
				t.Fatal(err)
			}
			group.Go(func() {
				switch err := r.Advance(ctx, "main", base, commit); {
				case err == nil:
					lock.Lock()
					won++
					lock.Unlock()
				case !errors.Is(err, git.ErrMoved):
					t.Errorf("want ErrMoved, got %v", err)
				}
			})
		}
		group.Wait()
		if won != 1 {
			t.Fatalf("%d won", won)
		}
	})
}

func TestResolve(t *testing.T) {
	both(t, func(t *testing.T, f fixture, r *git.Repository) {
		host(t, f.dir, "", "tag", "-a", "-m", "first", "v1", f.ids["clean"])
		if err := r.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
		for rev, want := range map[string]string{
			"clean": f.ids["clean"], "v1": f.ids["clean"], "refs/heads/clash": f.ids["clash"], f.ids["main"]: f.ids["main"],
		} {
			if got, err := r.Resolve(t.Context(), rev); err != nil || got != want {
				t.Errorf("%s: %s, %v", rev, got, err)
			}
		}
		for _, rev := range []string{"none", strings.Repeat("a", 40)} {
			if _, err := r.Resolve(t.Context(), rev); !errors.Is(err, git.ErrNotFound) {
				t.Errorf("%s: want ErrNotFound, got %v", rev, err)
			}
		}
	})
}

func TestHostileNames(t *testing.T) {
	f := newFixture(t)
	r, err := git.Open(t.Context(), f.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	trap := filepath.Join(t.TempDir(), "trap")
	names := []string{
		"", "-", "--upload-pack=touch " + trap, "--output=" + trap, "main~1", "main..clean", "main@{0}", "@",
		"../main", "a/../b", "a//b", "/main", "main/", "x.lock", ".x", "main ", "ma\nin", "main\x00", "a:b", "*", "HEAD^{/x}", strings.Repeat("x", 300),
	}
	for _, name := range names {
		if _, err := r.Head(t.Context(), name); !errors.Is(err, git.ErrBadName) {
			t.Errorf("head %q: want ErrBadName, got %v", name, err)
		}
		if _, err := r.Resolve(t.Context(), name); !errors.Is(err, git.ErrBadName) {
			t.Errorf("resolve %q: want ErrBadName, got %v", name, err)
		}
		if err := r.Advance(t.Context(), name, f.ids["main"], f.ids["main"]); !errors.Is(err, git.ErrBadName) {
			t.Errorf("advance %q: want ErrBadName, got %v", name, err)
		}
		if _, _, err := r.MergeTree(t.Context(), name, f.ids["main"]); !errors.Is(err, git.ErrBadName) {
			t.Errorf("merge %q: want ErrBadName, got %v", name, err)
		}
	}
	for _, url := range []string{"--upload-pack=touch " + trap, "ext::sh -c 'touch " + trap + "'", "a\nb"} {
		if _, err := git.Open(t.Context(), filepath.Join(t.TempDir(), "m.git"), url); !errors.Is(err, git.ErrBadName) {
			t.Errorf("open %q: want ErrBadName, got %v", url, err)
		}
	}
	if _, err := os.Stat(trap); err == nil {
		t.Fatal("a name was run as a command")
	}
}

// What the host has configured for git must not reach it.
func TestHostConfigurationIsIgnored(t *testing.T) {
	f := newFixture(t)
	trap := filepath.Join(t.TempDir(), "trap")
	hook := filepath.Join(f.dir, "hooks", "reference-transaction")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\ntouch "+trap+"\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GIT_DIR", "/nonexistent")
	t.Setenv("GIT_CONFIG_COUNT", "1")
	t.Setenv("GIT_CONFIG_KEY_0", "core.fsmonitor")
	t.Setenv("GIT_CONFIG_VALUE_0", "touch "+trap)
	r, err := git.Open(t.Context(), f.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Advance(t.Context(), "main", f.ids["main"], merge(t, r, f.ids["main"], f.ids["clean"])); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(trap); err == nil {
		t.Fatal("a hook ran")
	}
}

func TestCancelled(t *testing.T) {
	f := newFixture(t)
	r, err := git.Open(t.Context(), f.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Head(ctx, "main"); !errors.Is(err, context.Canceled) {
		t.Fatalf("want context.Canceled, got %v", err)
	}
}

// A mirror that a killed process has half made is made anew.
func TestAMirrorThatIsHalfMade(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, made := range [][]string{{}, {"HEAD"}, {"HEAD", "refs/heads"}, {"refs/heads", "objects/pack"}} {
		dir := filepath.Join(t.TempDir(), "mirror.git")
		for _, place := range []string{dir, dir + ".part"} {
			for _, name := range made {
				part := filepath.Join(place, name)
				if err := os.MkdirAll(filepath.Dir(part), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(part, []byte("ref: refs/heads/main\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		r, err := git.Open(t.Context(), dir, f.dir)
		if err != nil {
			t.Errorf("%q: %v", made, err)
			continue
		}
		if id, err := r.Resolve(t.Context(), "main"); err != nil || id != f.ids["main"] {
			t.Errorf("%q: main is %s, %v", made, id, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "mirror.git")
	if _, err := git.Open(t.Context(), dir, f.dir); err != nil {
		t.Fatal(err)
	}
	// A machine that went down: the name is there, and nothing in it. What else there is stays.
	kept, err := filepath.Glob(filepath.Join(dir, "objects", "*", "*"))
	if err != nil || len(kept) == 0 {
		t.Fatal(kept, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "HEAD"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := git.Open(t.Context(), dir, f.dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(kept[0]); err != nil {
		t.Error(err)
	}
}

// What is no mirror is not removed to make one.
func TestNoMirrorIsMadeOfWhatIsAnothers(t *testing.T) {
	t.Parallel()
	f, dir := newFixture(t), t.TempDir()
	file := filepath.Join(dir, "thesis")
	if err := os.WriteFile(file, []byte("years\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := git.Open(t.Context(), dir, f.dir); err == nil || !strings.Contains(err.Error(), "holds thesis") {
		t.Error(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

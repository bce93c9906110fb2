package git_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/lemnis/lemnis/services/builder/git"
)

// What is nearby is read as it stands, without a fetch, whatever way its branches are kept.
func TestAnOriginNearby(t *testing.T) {
	f := newFixture(t)
	mirror := filepath.Join(t.TempDir(), "mirror.git")
	r, err := git.Open(t.Context(), mirror, f.dir)
	if err != nil {
		t.Fatal(err)
	}
	stands := func(branch, want string) {
		t.Helper()
		got, err := r.Resolve(t.Context(), "refs/heads/"+branch)
		if want == "" && !errors.Is(err, git.ErrNotFound) || want != "" && (err != nil || got != want) {
			t.Errorf("%s stands at %q, %v, not at %q", branch, got, err, want)
		}
	}
	host(t, f.dir, file("new", "main^0", "n.txt", "n\n"), "fast-import", "--quiet", "--force")
	id := host(t, f.dir, "", "rev-parse", "refs/heads/new")
	stands("new", id)
	dir := filepath.Join(t.TempDir(), "out")
	if _, err := r.Checkout(t.Context(), id, dir); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "n.txt")); string(text) != "n\n" {
		t.Errorf("n.txt: %q", text)
	}
	commit := merge(t, r, f.ids["clean"], id) // not a few commits upon it: by git
	if trees, err := r.Trees(t.Context(), commit); err != nil || len(trees) != 1 {
		t.Errorf("%v %v", trees, err)
	}
	if there := host(t, mirror, "", "for-each-ref", "refs/heads/new"); there != "" {
		t.Errorf("it was fetched: %s", there)
	}

	host(t, f.dir, "", "pack-refs", "--all", "--prune")
	stands("new", id)
	stands("ne", "")
	stands("new/er", "")
	host(t, f.dir, "", "update-ref", "refs/heads/new", f.ids["clean"]) // a force-push, above what is packed
	stands("new", f.ids["clean"])
	host(t, f.dir, "", "symbolic-ref", "refs/heads/other", "refs/heads/clash")
	stands("other", f.ids["clash"])
	host(t, f.dir, "", "update-ref", "-d", "refs/heads/new")
	stands("new", "")

	// Landed, all of it is the mirror's own.
	base := f.ids["main"]
	host(t, f.dir, file("late", "clean^0", "late.txt", "l\n"), "fast-import", "--quiet", "--force")
	late := host(t, f.dir, "", "rev-parse", "refs/heads/late")
	commit = merge(t, r, base, late)
	if err := r.Advance(t.Context(), "main", base, commit); err != nil {
		t.Fatal(err)
	}
	stands("main", commit)
	host(t, mirror, "", "fsck", "--connectivity-only", commit)
	if files := host(t, f.dir, "", "ls-tree", "--name-only", "main"); files != "a.txt\nc.txt\ndir\nlate.txt" {
		t.Errorf("main holds %q", files)
	}

	if err := os.Rename(f.dir, f.dir+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Resolve(t.Context(), "refs/heads/main"); err == nil || errors.Is(err, git.ErrNotFound) {
		t.Errorf("an origin that is away has no branch: %v", err)
	}
	if err := r.Refresh(t.Context()); err == nil {
		t.Error("an origin that is away is as fresh as ever")
	}
}

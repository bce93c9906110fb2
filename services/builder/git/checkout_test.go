package git_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/services/builder/git"
)

// treeOf commits one tree of the given modes and contents, made with plumbing that checks little.
func treeOf(t *testing.T, dir string, files map[string][2]string) string {
	t.Helper()
	var list strings.Builder
	for name, f := range files {
		id := host(t, dir, f[1], "hash-object", "-w", "--stdin")
		fmt.Fprintf(&list, "%s blob %s\t%s\n", f[0], id, name)
	}
	return host(t, dir, "tree", "commit-tree", host(t, dir, list.String(), "mktree"))
}

func TestCheckout(t *testing.T) {
	f := newFixture(t)
	r, err := git.Open(t.Context(), f.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	commit := treeOf(t, f.dir, map[string][2]string{
		"run.sh":         {"100755", "#!/bin/sh\n"},
		"plain":          {"100644", "$Format:%H$\r\n"},
		".gitattributes": {"100644", "plain export-subst export-ignore text eol=lf\n"},
		"link":           {"120000", "run.sh"},
		"empty":          {"100644", ""},
	})
	dir := filepath.Join(t.TempDir(), "out")
	if _, err := r.Checkout(t.Context(), commit, dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"plain": "$Format:%H$\r\n", "link": "#!/bin/sh\n", "empty": ""} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "run.sh")); err != nil || info.Mode().Perm()&0o100 == 0 {
		t.Errorf("run.sh: %v, %v", info, err)
	}
	if _, err := r.Checkout(t.Context(), commit, dir); err == nil {
		t.Error("a folder that is not empty was written over")
	}
	dir = filepath.Join(t.TempDir(), "deep")
	if _, err := r.Checkout(t.Context(), f.ids["main"], dir); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "dir", "b.txt")); string(got) != "b\n" {
		t.Errorf("dir/b.txt: %q", got)
	}
	if _, err := r.Checkout(t.Context(), strings.Repeat("0", 40), t.TempDir()); !errors.Is(err, git.ErrNotFound) {
		t.Errorf("want ErrNotFound, got %v", err)
	}
}

// A few objects stand for 10^12 files: nobody waits for them to be listed, or has the memory.
func TestATreeOfAnyNumberOfFilesIsTooLarge(t *testing.T) {
	f := newFixture(t)
	r, err := git.Open(t.Context(), f.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	tree := host(t, f.dir, "100644 blob "+host(t, f.dir, "x", "hash-object", "-w", "--stdin")+"\tf\n", "mktree")
	for range 12 {
		var list strings.Builder
		for n := range 10 {
			fmt.Fprintf(&list, "040000 tree %s\td%d\n", tree, n)
		}
		tree = host(t, f.dir, list.String(), "mktree")
	}
	commit := host(t, f.dir, "m", "commit-tree", tree)
	if _, err := r.Checkout(t.Context(), commit, filepath.Join(t.TempDir(), "out")); !errors.Is(err, git.ErrTooLarge) {
		t.Errorf("checkout: %v", err)
	}
	if _, err := r.Files(t.Context(), commit); !errors.Is(err, git.ErrTooLarge) {
		t.Errorf("files: %v", err)
	}
}

// Nor for folders without files, nor for a path that no file system takes.
func TestATreeOfAnyNumberOfFoldersIsTooLarge(t *testing.T) {
	f := newFixture(t)
	r, err := git.Open(t.Context(), f.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	nest := func(depth, width int) string {
		tree := host(t, f.dir, "", "mktree")
		for range depth {
			var list strings.Builder
			for n := range width {
				fmt.Fprintf(&list, "040000 tree %s\t%s%d\n", tree, strings.Repeat("x", 200), n)
			}
			tree = host(t, f.dir, list.String(), "mktree")
		}
		return host(t, f.dir, "m", "commit-tree", tree)
	}
	for want, commit := range map[error]string{git.ErrTooLarge: nest(10, 10), git.ErrUnsafeTree: nest(25, 1)} {
		if _, err := r.Checkout(t.Context(), commit, filepath.Join(t.TempDir(), "out")); !errors.Is(err, want) {
			t.Errorf("want %v, got %v", want, err)
		}
	}
}

// Trees as git lists them, whatever their modes say.
func TestFilesAreWhatGitLists(t *testing.T) {
	f := newFixture(t)
	r, err := git.Open(t.Context(), f.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	blob, err := hex.DecodeString(host(t, f.dir, "x", "hash-object", "-w", "--stdin"))
	if err != nil {
		t.Fatal(err)
	}
	raw := ""
	for i, mode := range []string{"100644", "100664", "100755", "100700", "160000"} {
		raw += fmt.Sprintf("%s f%d\x00%s", mode, i, blob)
	}
	commit := host(t, f.dir, "m", "commit-tree", host(t, f.dir, raw, "hash-object", "-t", "tree", "-w", "--literally", "--stdin"))
	files, err := r.Checkout(t.Context(), commit, filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(host(t, f.dir, "", "ls-tree", "-r", commit)) {
		meta, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		field := strings.Fields(meta)
		if want := field[0] + " " + field[2]; files[name] != want {
			t.Errorf("%s is %q, git says %q", name, files[name], want)
		}
	}
	for _, raw := range []string{"100644 a/b\x00" + string(blob), "100644 a", "x a\x00" + string(blob), "100644 a\x00short"} {
		commit := host(t, f.dir, "m", "commit-tree", host(t, f.dir, raw, "hash-object", "-t", "tree", "-w", "--literally", "--stdin"))
		if _, err := r.Checkout(t.Context(), commit, filepath.Join(t.TempDir(), "out")); err == nil {
			t.Errorf("%q was checked out", raw)
		}
	}
}

func TestCheckoutRefusesToLeaveTheTree(t *testing.T) {
	f := newFixture(t)
	r, err := git.Open(t.Context(), f.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/etc/passwd", "../out", "..", "a/../../b", "up/../x", ""} {
		t.Run("link "+target, func(t *testing.T) {
			commit := treeOf(t, f.dir, map[string][2]string{"link": {"120000", target}, "z": {"100644", "z"}})
			dir := filepath.Join(t.TempDir(), "out")
			if _, err := r.Checkout(t.Context(), commit, dir); !errors.Is(err, git.ErrUnsafeTree) {
				t.Fatalf("want ErrUnsafeTree, got %v", err)
			}
			if _, err := os.Lstat(filepath.Join(dir, "link")); err == nil {
				t.Fatal("the link was made")
			}
		})
	}
	for _, name := range []string{"..", ".git", ".GIT"} {
		t.Run("path "+name, func(t *testing.T) {
			blob := host(t, f.dir, "x", "hash-object", "-w", "--stdin")
			sub := host(t, f.dir, "100644 blob "+blob+"\tx\n", "mktree")
			tree := host(t, f.dir, "040000 tree "+sub+"\t"+name+"\n", "mktree")
			commit := host(t, f.dir, "m", "commit-tree", tree)
			dir := filepath.Join(t.TempDir(), "out")
			if _, err := r.Checkout(t.Context(), commit, dir); !errors.Is(err, git.ErrUnsafeTree) {
				t.Fatalf("want ErrUnsafeTree, got %v", err)
			}
		})
	}
}

// Few objects can stand for many long paths: what is listed is bounded by its bytes as well.
func TestPathsAreBoundedByTheirBytes(t *testing.T) {
	f := newFixture(t)
	r, err := git.Open(t.Context(), f.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	blob := host(t, f.dir, "x", "hash-object", "-w", "--stdin")
	var list strings.Builder
	for n := range 40_000 {
		fmt.Fprintf(&list, "100644 blob %s\t%05d\n", blob, n)
	}
	tree := host(t, f.dir, list.String(), "mktree")
	for range 15 {
		tree = host(t, f.dir, "040000 tree "+tree+"\t"+strings.Repeat("x", 255)+"\n", "mktree")
	}
	commit := host(t, f.dir, "m", "commit-tree", tree)
	out := filepath.Join(t.TempDir(), "out")
	if _, err := r.Checkout(t.Context(), commit, out); !errors.Is(err, git.ErrTooLarge) {
		t.Errorf("checkout: %v", err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("it was written before it was known to be too large")
	}
	if _, err := r.Files(t.Context(), commit); !errors.Is(err, git.ErrTooLarge) {
		t.Errorf("files: %v", err)
	}
}

// A chain of large trees is not in memory as parsed entries: what stands behind the folder in which the walk is, is read when that is done.
func TestTreesAreReadAsTheyAreWalked(t *testing.T) {
	f := newFixture(t)
	r, err := git.Open(t.Context(), f.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	const depth, width = 10, 20_000
	blob := host(t, f.dir, "x", "hash-object", "-w", "--stdin")
	tree := host(t, f.dir, "100644 blob "+blob+"\t..\n", "mktree")
	for d := range depth {
		var list strings.Builder
		fmt.Fprintf(&list, "040000 tree %s\ta\n", tree)
		for n := range width {
			fmt.Fprintf(&list, "100644 blob %s\tb%d.%d\n", blob, d, n)
		}
		tree = host(t, f.dir, list.String(), "mktree")
	}
	commit := host(t, f.dir, "m", "commit-tree", tree)
	out := filepath.Join(t.TempDir(), "out")
	allocated := testing.AllocsPerRun(1, func() {
		if _, err := r.Checkout(t.Context(), commit, out); !errors.Is(err, git.ErrUnsafeTree) {
			t.Errorf("checkout: %v", err)
		}
	})
	if most := float64(depth * width / 10); allocated > most {
		t.Errorf("%.0f allocations to walk to the innermost of %d trees with %d files each, more than %.0f", allocated, depth, width, most)
	}
}

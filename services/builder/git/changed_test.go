package git_test

import (
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/lemnis/lemnis/services/builder/git"
)

func TestChangedLines(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "origin.git")
	host(t, dir, "", "init", "--quiet", "--bare", "--initial-branch=main", dir)
	host(t, dir, file("main", "", "a.txt", "one\ntwo\nthree\nfour\n")+file("main", "main", "gone.txt", "x\n")+file("main", "main", "cut.txt", "a\nb\n")+
		file("main", "main", `"odd\tname \303\266.txt"`, "x\n")+file("main", "main", "with space.txt", "x\n")+file("main", "main", "pic.bin", "a\x00b")+
		file("next", "main", "a.txt", "zero\none\ntwo!\nthree\nfour\nfive\nsix\n")+file("next", "next", "cut.txt", "b\n")+
		file("next", "next", `"odd\tname \303\266.txt"`, "y\n")+file("next", "next", "with space.txt", "y\n")+file("next", "next", "pic.bin", "a\x00c")+
		file("next", "next", "new.txt", "@@ -1 +1 @@\n+++ b/fake.txt\n")+
		"commit refs/heads/next\ncommitter Ann <ann@example.org> 1700000000 +0000\ndata 1\nx\nD gone.txt\n\n", "fast-import", "--quiet", "--force")
	r, err := git.Open(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	from, to := host(t, dir, "", "rev-parse", "main"), host(t, dir, "", "rev-parse", "next")
	got, err := r.ChangedLines(t.Context(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]git.Lines{
		"a.txt": {{From: 1, To: 1}, {From: 3, To: 3}, {From: 6, To: 7}}, "odd\tname ö.txt": {{From: 1, To: 1}},
		"with space.txt": {{From: 1, To: 1}}, "new.txt": {{From: 1, To: 2}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v\nwant\n%v", got, want)
	}
	files, err := r.Files(t.Context(), to)
	if want := []string{"a.txt", "cut.txt", "new.txt", "odd\tname ö.txt", "pic.bin", "with space.txt"}; err != nil || !slices.Equal(files, want) {
		t.Errorf("%q %v", files, err)
	}
	if same, err := r.ChangedLines(t.Context(), to, to); err != nil || len(same) != 0 {
		t.Errorf("between a commit and itself: %v %v", same, err)
	}
	if _, err := r.ChangedLines(t.Context(), "--output=/tmp/x", to); !errors.Is(err, git.ErrBadName) {
		t.Errorf("an option in place of a commit: %v", err)
	}
}

package git

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// What lies in files of its own is read without a process, and is the same as what git reads once it is packed.
func TestWhatIsLooseIsReadWithoutAProcess(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		dir := filepath.Join(t.TempDir(), "origin.git")
		plumb(t, dir, "", "init", "--quiet", "--bare", "--object-format="+format, "--initial-branch=main", dir)
		large := strings.Repeat("larger than what is read from its file\n", mostLoose/38)
		blob := func(content string) string { return plumb(t, dir, content, "hash-object", "-w", "--stdin") }
		folder := plumb(t, dir, fmt.Sprintf("100755 blob %s\ttool\n120000 blob %s\tlink\n", blob("#!/bin/sh\n"), blob("../a")), "mktree")
		empty := plumb(t, dir, "", "mktree")
		commit := func(entries string) string {
			tree := plumb(t, dir, entries, "mktree")
			return plumb(t, dir, "text\n", "commit-tree", "-p", plumb(t, dir, "text\n", "commit-tree", empty), tree)
		}
		small := fmt.Sprintf("100644 blob %s\ta\n040000 tree %s\tdir\n", blob("a\n"), folder)
		ids := []string{commit(small), commit(small + fmt.Sprintf("100644 blob %s\tb\n100644 blob %s\tc\n", blob(large), blob("")))}
		read := func(r *Repository, id string) (all []any) {
			t.Helper()
			trees, errTrees := r.Trees(t.Context(), id)
			commits, errCommits := r.Commits(t.Context(), id)
			out := filepath.Join(t.TempDir(), "out")
			files, err := r.Checkout(t.Context(), id, out)
			if errTrees != nil || errCommits != nil || err != nil {
				t.Fatal(errTrees, errCommits, err)
			}
			for _, name := range []string{"a", "dir/tool", "dir/link", "b", "c"} {
				text, _ := os.ReadFile(filepath.Join(out, name))
				all = append(all, string(text))
			}
			return append(all, trees, commits, files)
		}
		origin, err := Open(t.Context(), dir, "")
		if err != nil {
			t.Fatal(err)
		}
		mirror, err := Open(t.Context(), filepath.Join(t.TempDir(), "mirror.git"), dir)
		if err != nil {
			t.Fatal(err)
		}
		var want [][]any
		for i, id := range ids {
			want = append(want, read(origin, id))
			if format == "sha256" {
				continue // mirrors are of SHA-1
			}
			if got := read(mirror, id); !reflect.DeepEqual(got, want[i]) {
				t.Errorf("%s: what lies nearby is %v", format, got)
			}
			if asked := len(waiting(origin))+len(waiting(mirror)) > 0; asked != (i == 1) {
				t.Errorf("%s, commit %d: a process was asked: %v", format, i, asked)
			}
		}
		for i, id := range ids {
			plumb(t, dir, "", "update-ref", fmt.Sprintf("refs/heads/b%d", i), id)
		}
		plumb(t, dir, "", "repack", "-a", "-d", "--quiet")
		if _, _, is := origin.loose(ids[0]); is {
			t.Fatal("it is loose still")
		}
		for i, id := range ids {
			if got := read(origin, id); !reflect.DeepEqual(got, want[i]) {
				t.Errorf("%s: packed it is %v", format, got)
			}
		}
	}
}

// What is not as git writes it is left to git.
func TestABrokenFileOfAnObjectIsNotRead(t *testing.T) {
	r, _ := small(t)
	const text = "blob 4\x00text"
	const id = "f3a34851d44d6b97c90fbb99dddd66f9ab9d7ff4" // not its name
	var name string
	pack := func(content string) []byte {
		var b bytes.Buffer
		z := zlib.NewWriter(&b)
		_, _ = z.Write([]byte(content))
		_ = z.Close()
		return b.Bytes()
	}
	good := plumb(t, r.dir, "text", "hash-object", "-w", "--stdin")
	if kind, content, is := r.loose(good); !is || kind != "blob" || string(content) != "text" {
		t.Fatalf("%v %q %q", is, kind, content)
	}
	at := func(id string, content []byte) {
		t.Helper()
		name = filepath.Join(r.dir, "objects", id[:2], id[2:])
		_ = os.Remove(name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for what, place := range map[string]func(){
		"another's content": func() { at(id, pack(text)) },
		"cut off":           func() { at(good, pack(text)[:12]) },
		"another length":    func() { at(good, pack("blob 5\x00text")) },
		"no head":           func() { at(good, pack("text")) },
		"nothing":           func() { at(good, nil) },
		"a bomb":            func() { at(good, pack("blob 4\x00"+strings.Repeat("\x00", 2*mostLoose))) },
		"a pipe": func() {
			at(good, nil)
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mkfifo(name, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		place()
		for _, one := range []string{id, good} {
			if strings.HasSuffix(name, one[2:]) {
				if _, _, is := r.loose(one); is {
					t.Errorf("%s is read", what)
				}
			}
		}
	}
}

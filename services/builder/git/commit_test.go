package git

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// Who lands a commit says what it holds by its parents. Git reads those alone that stand right behind the tree: one written elsewhere makes no
// history, and what git makes of such a commit is asked of git.
func TestParentsAreWhatGitTakesForThem(t *testing.T) {
	r, id := small(t)
	tree := plumb(t, r.dir, "", "rev-parse", id+"^{tree}")
	other := plumb(t, r.dir, "other", "commit-tree", tree)
	const ann = "Ann <ann@example.org> 1700000000 +0000\n"
	parent, foreign := "parent "+id+"\n", "parent "+other+"\n"
	for name, head := range map[string]string{
		"behind the committer": parent + "author " + ann + "committer " + ann + foreign,
		"behind the author":    parent + "author " + ann + foreign + "committer " + ann,
		"behind a signature":   parent + "author " + ann + "committer " + ann + "gpgsig -----BEGIN\n end\n" + foreign,
		"behind another line":  parent + "note x\n" + foreign + "author " + ann + "committer " + ann,
		"two authors":          parent + "author " + ann + "author " + ann,
		"before the author":    parent + "committer " + ann + foreign + "author " + ann,
		"two trees":            parent + "tree " + tree + "\n" + foreign + "author " + ann + "committer " + ann,
	} {
		forged := plumb(t, r.dir, "tree "+tree+"\n"+head+"\nforged", "hash-object", "-t", "commit", "-w", "--literally", "--stdin")
		text, err := contentOf(t, r, forged)
		if err != nil {
			t.Fatal(err)
		}
		if _, ordinary := readCommit(forged, text); ordinary {
			t.Errorf("%s: it is read without git", name)
		}
		is, err := r.Ancestor(t.Context(), other, forged)
		if err != nil || is {
			t.Errorf("%s: another's commit is taken for a part of it: %v %v", name, is, err)
		}
		if same, ahead := r.ahead(t.Context(), other, forged); ahead {
			t.Errorf("%s: it is taken for another's commit and more: %s", name, same)
		}
	}
	// A signature makes a commit no less ordinary.
	signed := plumb(t, r.dir, "tree "+tree+"\n"+parent+"author "+ann+"committer "+ann+"gpgsig -----BEGIN\n parent "+other+"\n end\n\nsigned",
		"hash-object", "-t", "commit", "-w", "--literally", "--stdin")
	text, err := contentOf(t, r, signed)
	if err != nil {
		t.Fatal(err)
	}
	if c, ordinary := readCommit(signed, text); !ordinary || !reflect.DeepEqual(c.Parents, []string{id}) {
		t.Errorf("signed: %+v %v", c, ordinary)
	}
}

// One commit that is asked for twice is told twice, also where git is asked.
func TestACommitAskedForTwice(t *testing.T) {
	r, id := small(t)
	tree := plumb(t, r.dir, "", "rev-parse", id+"^{tree}")
	odd := plumb(t, r.dir, "tree "+tree+"\nauthor A <a@b>\ncommitter A <a@b> 1 +0000\n\nx", "hash-object", "-t", "commit", "-w", "--literally", "--stdin")
	for _, ids := range [][]string{{odd, odd}, {odd, id, odd}, {id, id}} {
		got, err := r.Commits(t.Context(), ids...)
		if err != nil || len(got) != len(ids) {
			t.Fatalf("%v: %d commits, %v", ids, len(got), err)
		}
		for i, c := range got {
			if c.ID != ids[i] {
				t.Errorf("%v: the commit at %d is %s", ids, i, c.ID)
			}
		}
	}
}

// Facts and images say when a commit was made: as RFC 3339, whatever the commit says.
func TestACommitOfALaterTimeThanCanBeSaid(t *testing.T) {
	r, id := small(t)
	tree := plumb(t, r.dir, "", "rev-parse", id+"^{tree}")
	for time, want := range map[string]string{"253402300799": "9999-12-31T23:59:59Z", "253402300800": "9999-12-31T23:59:59Z", "99999999999999": "9999-12-31T23:59:59Z", "1700000000": "2023-11-14T22:13:20Z"} {
		who := "Ann <ann@example.org> " + time + " +0000\n"
		late := plumb(t, r.dir, "tree "+tree+"\nauthor "+who+"committer "+who+"\nlate", "hash-object", "-t", "commit", "-w", "--literally", "--stdin")
		one, err := r.Commits(t.Context(), late)
		if err != nil {
			t.Fatal(err)
		}
		logged, err := r.Log(t.Context(), "", late, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range append(one, logged...) {
			for _, at := range []interface{ MarshalText() ([]byte, error) }{c.Authored, c.Committed} {
				if text, err := at.MarshalText(); err != nil || string(text) != want {
					t.Errorf("%s is taken for %s, want %s: %v", time, text, want, err)
				}
			}
		}
	}
}

// What tidying would remove for its age is young again when it is written again.
func TestWhatIsWrittenAgainIsYoung(t *testing.T) {
	r, _ := small(t)
	id, err := r.put("blob", []byte("text"), 20)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(r.dir, "objects", id[:2], id[2:])
	old := time.Now().Add(-30 * 24 * time.Hour)
	if err := os.Chtimes(name, old, old); err != nil {
		t.Fatal(err)
	}
	if again, err := r.put("blob", []byte("text"), 20); err != nil || again != id {
		t.Fatalf("%s %v", again, err)
	}
	if info, err := os.Stat(name); err != nil || time.Since(info.ModTime()) > time.Hour {
		t.Errorf("it stands as of %v, %v", info.ModTime(), err)
	}
	plumb(t, r.dir, "", "prune", "--expire=2.weeks.ago")
	if got := plumb(t, r.dir, "", "cat-file", "blob", id); got != "text" {
		t.Errorf("%q", got)
	}
}

// Tidying removes folders of objects that are empty: once between the making of one and its use is no fault.
func TestAFolderThatTidyingRemoves(t *testing.T) {
	r, _ := small(t)
	folder := filepath.Join(r.dir, "objects", "zz")
	for range 2000 {
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
					if os.Remove(folder) == nil {
						return
					}
				}
			}
		}()
		file, err := temporary(folder)
		close(stop)
		<-done
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(file.Close(), os.RemoveAll(folder)); err != nil {
			t.Fatal(err)
		}
	}
}

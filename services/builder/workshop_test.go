package builder

import (
	"os"
	"path/filepath"
	"testing"
)

// What a commit became is kept as it was packaged last; the same once more stays where it is.
func TestWhatIsKeptAlreadyStays(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t.TempDir())
	keep := func(text, digest string) os.FileInfo {
		t.Helper()
		room, leave, err := w.room("run", 1)
		if err != nil {
			t.Fatal(err)
		}
		defer leave()
		file := filepath.Join(room, "api")
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(os.WriteFile(file, []byte(text), 0o600))
		must(w.keep(product{project: "shop", repository: "api", commit: "c", file: file, digest: digest, size: 1}))
		e, there := w.find("shop", "api", "c")
		if !there || e.digest != digest {
			t.Fatalf("%+v", e)
		}
		kept, err := os.ReadFile(e.file)
		if err != nil || string(kept) != text {
			t.Fatalf("%q is kept, not %q: %v", kept, text, err)
		}
		info, err := os.Stat(e.file)
		must(err)
		return info
	}
	first := keep("one", "1")
	if second := keep("one", "1"); !os.SameFile(first, second) {
		t.Error("it was replaced by the same")
	}
	keep("another", "2")
	e, _ := w.find("shop", "api", "c")
	if err := os.Remove(e.file); err != nil {
		t.Fatal(err)
	}
	keep("another", "2")
	if len(w.built) != 1 {
		t.Errorf("%d are kept of one commit", len(w.built))
	}
}

// What is shipped is what was tested, also when the commit is packaged anew meanwhile, or shipped by another.
func TestWhatIsShippedStaysAsItIs(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t.TempDir())
	room := func() string {
		t.Helper()
		dir, _, err := w.room("run", 1)
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	keep := func(text string) {
		t.Helper()
		e := product{project: "shop", repository: "api", commit: "c", file: filepath.Join(room(), "api"), digest: text}
		if err := os.WriteFile(e.file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.keep(e); err != nil {
			t.Fatal(err)
		}
	}
	pin := func() product {
		t.Helper()
		e, there, err := w.pin("shop", "api", "c", room())
		if err != nil || !there {
			t.Fatalf("nothing is kept: %v", err)
		}
		return e
	}
	has := func(e product, want string) {
		t.Helper()
		if text, err := os.ReadFile(e.file); err != nil || string(text) != want {
			t.Errorf("%q is shipped, not %q: %v", text, want, err)
		}
	}
	keep("one")
	one := pin()
	keep("two")
	has(one, "one")
	two, other := pin(), pin()
	w.discard(one)
	has(pin(), "two") // what was shipped is not what is kept by now
	w.discard(two)
	has(two, "two")
	has(other, "two")
	if _, there, err := w.pin("shop", "api", "c", room()); there || err != nil {
		t.Errorf("it is still kept: %v", err)
	}
	keep("three")
	if err := os.Remove(w.built[0].file); err != nil {
		t.Fatal(err)
	}
	if _, there, err := w.pin("shop", "api", "c", room()); there || err != nil {
		t.Errorf("what was removed is there: %v", err)
	}
	keep("four")
	if _, _, err := w.pin("shop", "api", "c", filepath.Join(w.built[0].file, "no folder")); err == nil {
		t.Error("that it can not be pinned is no error")
	}
}

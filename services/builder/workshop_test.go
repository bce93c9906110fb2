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
		must(w.keep(product{project: "shop", repository: "api", commit: "c", file: file, digest: digest, size: int64(len(text))}))
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

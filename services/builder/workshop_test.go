package builder

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// Not every file system has second names for a file.
func TestWhatIsShippedIsCopiedWhereThereAreNoLinks(t *testing.T) {
	t.Parallel()
	for _, none := range []error{syscall.EPERM, syscall.EOPNOTSUPP, syscall.EMLINK} {
		w := newWorkshop(t.TempDir())
		w.link = func(from, to string) error { return &os.LinkError{Op: "link", Old: from, New: to, Err: none} }
		room, leave, err := w.room("run", 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(leave)
		file := filepath.Join(room, "made")
		if err := os.WriteFile(file, []byte("one"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.keep(product{project: "shop", repository: "api", commit: "c", file: file, digest: "1"}); err != nil {
			t.Fatal(err)
		}
		e, there, err := w.pin("shop", "api", "c", room)
		if err != nil || !there {
			t.Fatalf("%v: nothing is shipped: %v", none, err)
		}
		w.discard(e)
		if text, err := os.ReadFile(e.file); err != nil || string(text) != "one" {
			t.Errorf("%v: %q is shipped: %v", none, text, err)
		}
	}
}

// What was damaged on the disk is not tried again and again: it is made anew.
func TestWhatIsDamagedIsNotKept(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	t.Cleanup(server.Close)
	archive, id := bare(t)
	text, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	broken := append([]byte(nil), text...)
	broken[512] = '[' // of the configuration
	for name, damage := range map[string][]byte{"no archive": []byte("no archive"), "cut off": text[:700], "another configuration": broken} {
		b := &builder{options: Options{Registry: server.URL}, workshop: newWorkshop(t.TempDir())}
		room, leave, err := b.workshop.room("run", 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(leave)
		file := filepath.Join(room, "image.tar")
		if err := os.WriteFile(file, damage, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := b.workshop.keep(product{project: "shop", repository: "api", commit: "c", file: file, digest: id, image: true}); err != nil {
			t.Fatal(err)
		}
		job := &service.Job{Project: events.Project{Name: "shop"}}
		d := events.BuildDetail{Service: "api", Merge: events.MergeDetail{Repository: "api", Commit: "c"}}
		if _, _, err := b.ship(t.Context(), job, &d, time.Now()); err == nil {
			t.Fatalf("%s: it is shipped", name)
		} else if _, there := b.workshop.find("shop", "api", "c"); there {
			t.Errorf("%s: it is still kept after %v", name, err)
		}
	}
}

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
		t.Cleanup(leave)
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

// Runs follow one another at once, and each makes and removes many files: they are told to be kept apart, by whichever builder begins.
func TestRoomsAreKeptApartOnTheDisk(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	var disk unix.Statfs_t
	if err := unix.Statfs(data, &disk); err != nil || disk.Type != unix.EXT4_SUPER_MAGIC {
		t.Skipf("SKIPPED: that rooms are kept apart on the disk was NOT shown: file system %x is not ext4 (%v)", disk.Type, err)
	}
	for range 2 { // the second one makes the folder anew
		w := newWorkshop(data)
		room, leave, err := w.room("run", 1)
		if err != nil {
			t.Fatal(err)
		}
		work, err := os.Open(filepath.Dir(room))
		if err != nil {
			t.Fatal(err)
		}
		if flags, err := unix.IoctlGetUint32(int(work.Fd()), unix.FS_IOC_GETFLAGS); err != nil || flags&topDir == 0 {
			t.Errorf("flags %x, %v", flags, err)
		}
		_ = work.Close()
		leave()
		_ = w.lock.Close()
	}
}

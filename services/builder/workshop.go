package builder

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/services/builder/git"
)

// workshop is a process's own place in the data folder: <data>/<n>, held by a lock that ends with
// the process, however that ends.
//
//	<data>/<n>/mirrors   bare mirrors of the repositories, kept
//	<data>/<n>/work      one folder an attempt; what a dead process left in it is removed
//	<data>/go            Go's caches of each project, as runs of its master copies left them
//	<data>/engine        which processes have containers, see [executor.NewDocker]
//	<data>/engine-built  what image builds have made on the engine, until it is removed
//	<data>/engine-images which images were pulled for steps, and when each was used last
//	<data>/kept          what steps left: of each repository, by tree and what they depend on, results and cached folders
type workshop struct {
	data string

	mu      sync.Mutex
	place   string   // <data>/<n>; empty until something is to be done
	lock    *os.File // holds the place as long as it is open
	mirrors map[string]*mirror
	built   []product

	link func(from, to string) error // os.Link, that some file systems have not
}

type mirror struct {
	mu   sync.Mutex
	repo *git.Repository
}

// product is the executable or image that the pipeline packaged of a commit: the merge is tested and packaged at once,
// and what was tested is what is shipped.
type product struct {
	project, repository, commit string
	file, digest                string
	size                        int64
	bytes                       int64             // of the file; set once it is kept
	image                       bool              // the file is an archive, see pipeline.Report
	bases                       map[string]string // see pipeline.Report
	modules                     []string          // see pipeline.Report
}

// Executables and images wait to be merged and pushed, so many and so many bytes of them; the oldest go first, and are made again.
const (
	keepBuilt      = 16
	keepBuiltBytes = 16 << 30
)

func newWorkshop(data string) *workshop {
	return &workshop{data: data, mirrors: map[string]*mirror{}, link: os.Link}
}

// enter takes a place in the data folder, the first time.
func (w *workshop) enter() (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.place != "" {
		return w.place, nil
	}
	if w.data == "" {
		return "", errors.New("the builder has no data folder")
	}
	data, err := filepath.Abs(w.data)
	if err != nil {
		return "", err
	}
	for n := 0; ; n++ {
		place := filepath.Join(data, strconv.Itoa(n))
		if err := os.MkdirAll(place, 0o700); err != nil {
			return "", err
		}
		lock, err := os.OpenFile(filepath.Join(place, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return "", err
		}
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			_ = lock.Close()
			continue // another process's
		}
		if err == nil {
			err = tidy(place)
		}
		for _, old := range []string{"steps", "caches"} { // of earlier versions: what changes left was taken for the master copy
			err = errors.Join(err, executor.RemoveAll(filepath.Join(data, old)))
		}
		if err != nil {
			_ = lock.Close()
			return "", err
		}
		w.place, w.lock = place, lock
		return place, nil
	}
}

// tidy removes what a process that died here left half done.
func tidy(place string) error {
	if err := executor.RemoveAll(filepath.Join(place, "work")); err != nil {
		return err
	}
	// git leaves the lock of a ref behind when it is killed, and then refuses to touch that ref.
	var locks []string
	err := filepath.WalkDir(filepath.Join(place, "mirrors"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".lock") {
			locks = append(locks, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, lock := range locks {
		// One that is gone was a command's that outlived its builder.
		if err := os.Remove(lock); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// room is an empty folder for one attempt. leave gives it up: it is removed while nobody waits for that, and if the process ends
// before, by the next one.
func (w *workshop) room(name string, attempt uint64) (dir string, leave func(), err error) {
	place, err := w.enter()
	if err != nil {
		return "", nil, err
	}
	work := filepath.Join(place, "work")
	if _, err := os.Stat(work); err != nil {
		if err := os.MkdirAll(work, 0o700); err != nil {
			return "", nil, err
		}
		scatter(work)
	}
	dir, err = os.MkdirTemp(work, token(name)+"-"+strconv.FormatUint(attempt, 10)+"-") // the same attempt may come again before it is gone
	return dir, func() { go func() { _ = executor.RemoveAll(dir) }() }, err
}

// topDir is FS_TOPDIR_FL of linux/fs.h, `chattr +T`.
const topDir = 0x20000

// scatter tells the file system that the folders in one are unrelated. ext4 otherwise puts them close by, and without a journal looks for
// each new file among all that was just removed there, see docs/performance.md. What other file systems say to it does not matter.
func scatter(folder string) {
	at, err := os.Open(folder)
	if err != nil {
		return
	}
	defer func() { _ = at.Close() }()
	if flags, err := unix.IoctlGetUint32(int(at.Fd()), unix.FS_IOC_GETFLAGS); err == nil {
		_ = unix.IoctlSetPointerInt(int(at.Fd()), unix.FS_IOC_SETFLAGS, int(flags|topDir))
	}
}

// open opens the mirror of a repository, brought to where its origin stands. secret is what the origin asks for; nil: nothing.
func (w *workshop) open(ctx context.Context, project, url string, secret git.Secret) (*git.Repository, error) {
	place, err := w.enter()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(place, "mirrors", project, token(url)+".git")
	w.mu.Lock()
	m := w.mirrors[dir]
	if m == nil {
		m = &mirror{}
		w.mirrors[dir] = m
	}
	w.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.repo != nil {
		m.repo.Authorize(secret) // the project may name another by now
		return m.repo, m.repo.Refresh(ctx)
	}
	repo, err := git.OpenWith(ctx, dir, url, secret)
	if err != nil {
		return nil, err
	}
	m.repo = repo
	return repo, nil
}

// kept is the folder for what the steps of a repository leave.
func (w *workshop) kept(project, repository string) string {
	return filepath.Join(w.data, "kept", token(project+"\x00"+repository))
}

// goCaches is the folder for the caches of Go of a project.
func (w *workshop) goCaches(project string) string {
	return filepath.Join(w.data, "go", token(project))
}

// keep moves what is packaged out of its room, for package to find.
func (w *workshop) keep(e product) error {
	place, err := w.enter()
	if err != nil {
		return err
	}
	dir := filepath.Join(place, "work", "built-"+token(e.project+"\x00"+e.repository+"\x00"+e.commit))
	to := filepath.Join(dir, filepath.Base(e.file))
	w.mu.Lock()
	defer w.mu.Unlock()
	old, there := w.find(e.project, e.repository, e.commit) // the commit was tested before
	info, err := os.Stat(to)
	if !there || old.file != to || old.digest != e.digest || err != nil || info.Size() != old.bytes {
		if err := cmp.Or(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
			return err
		}
		if err := os.Rename(e.file, to); err != nil {
			return err
		}
		if info, err = os.Stat(to); err != nil {
			return err
		}
	}
	e.file, e.bytes = to, info.Size()
	w.forget(e)
	w.built = append(w.built, e)
	for w.crowded() {
		_ = os.RemoveAll(filepath.Dir(w.built[0].file))
		w.built = w.built[1:]
	}
	return nil
}

// crowded says whether the oldest of what is packaged has to go. The newest stays, whatever its size.
func (w *workshop) crowded() bool {
	bytes := int64(0)
	for _, e := range w.built {
		bytes += e.size
	}
	return len(w.built) > keepBuilt || len(w.built) > 1 && bytes > keepBuiltBytes
}

// pin is what is packaged of a commit that was tested in this process, as a name of its own in a room: it stays as it is while it is
// shipped, whatever becomes of what is kept. What is not there has to be made.
func (w *workshop) pin(project, repository, commit, room string) (product, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, there := w.find(project, repository, commit)
	if !there {
		return product{}, false, nil
	}
	pinned := filepath.Join(room, filepath.Base(e.file))
	err := w.link(e.file, pinned)
	if unlinked(err) {
		err = copied(e.file, pinned)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w.forget(e)
		return product{}, false, nil
	case err != nil:
		return product{}, false, err
	}
	e.file = pinned
	return e, true, nil
}

// unlinked says that a file system has no second names for a file.
func unlinked(err error) bool {
	return slices.ContainsFunc([]error{syscall.EPERM, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EMLINK}, func(e error) bool { return errors.Is(err, e) })
}

func copied(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	file, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700) //nolint:gosec // it is a program
	if err != nil {
		return err
	}
	_, err = io.Copy(file, source)
	return errors.Join(err, file.Close())
}

// find looks for what is kept of a commit, for who holds the lock.
func (w *workshop) find(project, repository, commit string) (product, bool) {
	for _, e := range w.built {
		if e.project == project && e.repository == repository && e.commit == commit {
			return e, true
		}
	}
	return product{}, false
}

// discard removes what is kept of a commit, unless that has become another meanwhile.
func (w *workshop) discard(e product) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if kept, there := w.find(e.project, e.repository, e.commit); there && kept.digest == e.digest {
		w.forget(kept)
		_ = os.RemoveAll(filepath.Dir(kept.file))
	}
}

func (w *workshop) forget(e product) {
	kept := w.built[:0]
	for _, k := range w.built {
		if k.project != e.project || k.repository != e.repository || k.commit != e.commit {
			kept = append(kept, k)
		}
	}
	w.built = kept
}

// token makes a file name of any text: keys and URLs are chosen by others.
func token(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:10])
}

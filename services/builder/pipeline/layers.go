package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/services/builder/definition"
)

// goCaches are the variables that name the caches of Go. A step that may write to them could leave something that another's build
// takes for its own: so each project has its own, a run reads what runs of master copies left, and writes to a layer above it. That
// is kept with the run's tree, and moves down once the tree is the master copy's. See docs/adr/0017-layers.md.
var goCaches = []string{goBuilt, "GOMODCACHE"}

const goBuilt = "GOCACHE"

const (
	layersName = "go"               // of what is kept of a tree
	mostLayers = 4 << 30            // bytes of each cache of a project
	goUnused   = 5 * 24 * time.Hour // after which the go command forgets what it has built
	tidyLayers = 24 * time.Hour     // between two looks at what is unused
)

// layers are those of one run.
type layers struct {
	on     bool
	copied bool   // no folder can be laid over another here: what is below is copied
	room   string // for what tasks write
	lock   *os.File

	mu    sync.Mutex
	lower []string            // folders that have one of each cache, under its variable's name
	upper map[string]string   // of tasks that ended well: such a folder
	order []string            // in which they did
	above map[string][]string // of a task: what it needs, and what that needs
}

// openLayers finds out what lies below the caches of this run's steps.
func (r *run) openLayers(ctx context.Context, tasks []definition.Task) error {
	if r.spec.Go == "" || r.spec.Kept == "" || len(r.env.caches) == 0 {
		r.env.shared = append(r.env.shared, slices.Sorted(maps.Values(r.env.caches))...)
		return nil
	}
	host, can := r.spec.Host.(interface {
		Isolated(ctx context.Context) (bool, string, error)
		Layered(ctx context.Context, folder string, lower ...string) (bool, string, error)
	})
	if !can {
		return errors.New("the executor of steps knows no layers")
	}
	if isolated, _, err := host.Isolated(ctx); err != nil || !isolated { // such a step writes where it likes: what the machine has is as good
		r.env.shared = append(r.env.shared, slices.Sorted(maps.Values(r.env.caches))...)
		return err
	}
	var below []string
	for _, tree := range r.trees() { // the master copy's too: it may not have been settled
		below = append(below, filepath.Join(r.spec.Kept, tree, layersName, cacheFiles))
	}
	below = append(below, r.spec.Go)
	for _, folder := range below {
		r.report.Modules = append(r.report.Modules, filepath.Join(folder, "GOMODCACHE"))
	}
	used(filepath.Join(r.own(), layersName))
	if r.idle {
		return nil
	}
	l := &r.layers
	l.on, l.room, l.upper, l.above = true, filepath.Join(r.spec.Output, "layers"), map[string]string{}, map[string][]string{}
	for _, folder := range []string{l.room, r.spec.Go} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
	}
	layered, why, err := host.Layered(ctx, l.room, slices.Sorted(maps.Values(r.env.caches))...)
	if err != nil {
		return err
	}
	if l.copied = !layered; l.copied {
		_, _ = fmt.Fprintf(r.log, "Go's caches are copied for each step: %s\n", why)
	}
	if l.lock, err = os.OpenFile(filepath.Join(r.spec.Go, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if l.alone() {
		if err := r.settle(); err != nil {
			_, _ = fmt.Fprintf(r.log, "Go's caches of the master copy: %v\n", err)
		}
	}
	if err := flock(l.lock, syscall.LOCK_SH); err != nil {
		return err
	}
	for _, folder := range below {
		if _, err := os.Stat(folder); err == nil {
			l.lower = append(l.lower, folder)
		}
	}
	for _, t := range tasks {
		for _, need := range t.Needs {
			l.above[t.Name] = append(append(l.above[t.Name], need), l.above[need]...)
		}
	}
	return nil
}

// alone says whether no other run of the project has its folders below a step: the kernel does not say what becomes of an overlay
// whose lower folders change. If so none begins until the lock is let go. If not, whatever this run held is let go: its own steps
// must not have begun, or have ended.
func (l *layers) alone() bool {
	return l.lock != nil && flock(l.lock, syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

func (l *layers) unlock() {
	if l.lock != nil {
		_ = flock(l.lock, syscall.LOCK_UN) // a process that is being begun meanwhile has it open too, for a moment
		_ = l.lock.Close()
		l.lock = nil
	}
}

func flock(file *os.File, how int) error {
	for {
		if err := syscall.Flock(int(file.Fd()), how); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// layered gives a step its caches; commit has those that come after it see what it left in them.
func (r *run) layered(t definition.Task, step *executor.Step) (commit func(), err error) {
	l := &r.layers
	if !l.on || step.Image != "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(l.room, 0o700); err != nil {
		return nil, err
	}
	upper, err := os.MkdirTemp(l.room, "") // each attempt has its own
	if err != nil {
		return nil, err
	}
	copied := l.copied || len(t.Step.Services) > 0 // it runs in a container then, where nothing is laid over anything
	for name, target := range r.env.caches {
		layer := executor.Layer{Target: target, Upper: filepath.Join(upper, name)}
		if err := os.Mkdir(layer.Upper, 0o700); err != nil {
			return nil, err
		}
		for _, folder := range l.below(t.Name, name) {
			if _, err := os.Stat(folder); err == nil {
				layer.Lower = append(layer.Lower, folder)
			}
		}
		if layer.Lower = append(layer.Lower, target); copied {
			// What the host has is left out: it may be much.
			if err := copyAll(layer.Lower[:len(layer.Lower)-1], filepath.Join(layer.Upper, "upper")); err != nil {
				return nil, err
			}
			layer.Lower = nil
		}
		step.Layers = append(step.Layers, layer)
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.upper[t.Name], l.order = upper, append(l.order, t.Name)
	}, nil
}

// below are the folders that a task sees in one of the caches, the uppermost first.
func (l *layers) below(task, name string) (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ended := range slices.Backward(l.order) {
		if slices.Contains(l.above[task], ended) {
			all = append(all, filepath.Join(l.upper[ended], name, "upper"))
		}
	}
	for _, folder := range l.lower {
		all = append(all, filepath.Join(folder, name))
	}
	return all
}

func copyAll(from []string, folder string) error {
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	to, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() { _ = to.Close() }()
	for _, below := range from {
		source, err := os.OpenRoot(below)
		if err == nil {
			err = errors.Join(copyTree(source, to), source.Close())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keepLayers keeps what the steps of a run that succeeded left in the caches, with its tree. What an earlier run of the tree left is
// touched only where no other reads it.
func (r *run) keepLayers(alone bool) {
	l := &r.layers
	if _, failed := r.report.Failed(); failed || len(l.order) == 0 {
		return
	}
	if err := r.fileLayers(alone); err != nil {
		_, _ = fmt.Fprintf(r.log, "what steps left in Go's caches is not kept: %v\n", err)
	}
}

func (r *run) fileLayers(alone bool) error {
	l, before := &r.layers, filepath.Join(r.own(), layersName)
	if _, err := os.Stat(before); err == nil && !alone {
		return errors.New("others are reading what an earlier run left in them")
	}
	total, err := bytesIn(before) // before anything is moved: what there was stays if this is too much
	if ignoreMissing(err) != nil {
		return err
	}
	for _, task := range l.order {
		for _, name := range goCaches {
			left, err := bytesIn(filepath.Join(l.upper[task], name, "upper"))
			if err != nil {
				return err
			}
			total += left
		}
	}
	if total > mostKept {
		return fmt.Errorf("it is more than %d bytes", int64(mostKept))
	}
	k := kept{Step: layersName, Run: r.spec.Name, Finished: r.spec.Now()}
	_, err = r.fill(layersName, &k, func(at string) error {
		files := filepath.Join(at, cacheFiles)
		if err := os.Mkdir(files, 0o700); err != nil {
			return err
		}
		if alone {
			if err := sink(filepath.Join(before, cacheFiles), files); err != nil {
				return err
			}
		}
		for _, task := range l.order {
			for _, name := range goCaches {
				if err := land(filepath.Join(l.upper[task], name, "upper"), filepath.Join(files, name)); err != nil {
					return err
				}
			}
		}
		var err error
		if k.Bytes, err = bytesIn(files); err != nil || !alone {
			return err
		}
		return discard(before)
	})
	return err
}

// settle moves what runs of the master copy's tree left down to what all runs of the project read. The run has to be alone.
func (r *run) settle() error {
	if r.spec.Base == "" {
		return nil
	}
	var wrong error
	from := filepath.Join(r.spec.Kept, r.spec.Base, layersName)
	if _, err := os.Stat(from); err == nil {
		wrong = r.lower(from)
	}
	if info, err := os.Stat(filepath.Join(r.spec.Go, "GOCACHE", "trim.txt")); err != nil || time.Since(info.ModTime()) > tidyLayers {
		wrong = errors.Join(wrong, r.tidyLayers())
	}
	return wrong
}

func (r *run) lower(from string) error {
	for _, name := range goCaches {
		if err := sink(filepath.Join(from, cacheFiles, name), filepath.Join(r.spec.Go, name)); err != nil {
			return err
		}
	}
	return discard(from)
}

// tidyLayers removes what was built and not used for long, as the go command does, which is told that it was done. What is too much
// all the same begins anew.
func (r *run) tidyLayers() error {
	now := time.Now()
	for _, name := range goCaches {
		folder, total := filepath.Join(r.spec.Go, name), int64(0)
		err := filepath.WalkDir(folder, func(at string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return ignoreMissing(err)
			}
			info, err := entry.Info()
			if err != nil {
				return ignoreMissing(err)
			}
			if name == "GOCACHE" && now.Sub(info.ModTime()) > goUnused {
				return ignoreMissing(os.Remove(at)) //nolint:gosec // no step writes there
			}
			total += info.Size()
			return nil
		})
		if err == nil && total > mostLayers {
			err = discard(folder)
		}
		if err != nil {
			return err
		}
	}
	folder := filepath.Join(r.spec.Go, "GOCACHE")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "trim.txt"), fmt.Appendf(nil, "%d", now.Unix()), 0o600)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// land is sink where nothing may lie below yet: the folder is moved as a whole then, since to make and remove folders is what takes long
// on some file systems.
func land(upper, lower string) error {
	if _, err := os.Lstat(lower); !errors.Is(err, fs.ErrNotExist) {
		return sink(upper, lower)
	}
	err := filepath.WalkDir(upper, func(at string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return cmp.Or(passable(at, entry), unmark(at))
		case !entry.Type().IsRegular(): // links, and that something further below is removed: caches only gain
			return os.Remove(at) //nolint:gosec // the steps that wrote it have ended
		}
		return nil
	})
	if err == nil {
		err = os.Rename(upper, lower)
	}
	return ignoreMissing(err)
}

// passable gives back the rights to a folder: the go command takes those to write to modules.
func passable(at string, folder fs.DirEntry) error {
	info, err := folder.Info()
	if err == nil && info.Mode().Perm()&0o700 != 0o700 {
		err = os.Chmod(at, 0o700) //nolint:gosec // a folder
	}
	return err
}

// unmark takes away what a folder says to the overlay that it is read through: that it hides what is below, say.
func unmark(folder string) error {
	names := make([]byte, 64<<10) // more than the kernel ever gives
	n, err := unix.Llistxattr(folder, names)
	if err != nil {
		if errors.Is(err, unix.ENOTSUP) {
			return nil
		}
		return err
	}
	for _, name := range strings.Split(string(names[:n]), "\x00") {
		if strings.HasPrefix(name, overlayMarks) {
			err = cmp.Or(err, unix.Lremovexattr(folder, name))
		}
	}
	return err
}

// sink moves the files of an upper folder into the one below, and removes what it says is removed. Of the two, what is above holds:
// a step may have put a file in a folder's place, or the other way round.
func sink(upper, lower string) error {
	return filepath.WalkDir(upper, func(at string, entry fs.DirEntry, err error) error {
		if err != nil {
			return ignoreMissing(err)
		}
		below, err := filepath.Rel(upper, at)
		if err != nil {
			return err
		}
		to := filepath.Join(lower, below)
		switch entry.Type() {
		case fs.ModeDir:
			if err := passable(at, entry); err != nil {
				return err
			}
			if there, err := os.Lstat(to); err == nil && (!there.IsDir() || opaque(at)) {
				if err := executor.RemoveAll(to); err != nil {
					return err
				}
			}
			return os.MkdirAll(to, 0o755)
		case fs.ModeDevice | fs.ModeCharDevice:
			return executor.RemoveAll(to)
		case 0:
			if there, err := os.Lstat(to); err == nil && there.IsDir() {
				if err := executor.RemoveAll(to); err != nil {
					return err
				}
			}
			return os.Rename(at, to) //nolint:gosec // the steps that wrote it have ended, and links are never moved
		}
		return nil
	})
}

const overlayMarks = "user.overlay."

// opaque says whether nothing of the folder below is seen through this one: it was removed and made anew.
func opaque(folder string) bool {
	var is [1]byte
	n, err := unix.Lgetxattr(folder, overlayMarks+"opaque", is[:])
	return err == nil && n == 1 && is[0] == 'y'
}

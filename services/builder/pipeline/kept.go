package pipeline

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/services/builder/definition"
)

// kept is what a step that succeeded left: a folder under the tree that it was run on and its key, with this as result.json beside
// the files. Of a folder that a step keeps there is such a folder too, see [run.takeCaches].
type kept struct {
	Step       string     `json:"step"`
	Run        string     `json:"run"` // that ran it
	Finished   time.Time  `json:"finished"`
	Unisolated string     `json:"unisolated,omitempty"`
	Files      []keptFile `json:"files,omitempty"` // outputs and reports
	Bytes      int64      `json:"bytes,omitempty"` // of a cache: what is in its folder

	at   string // the folder
	from string // of another builder's whose files are not here: the tree that it is filed under
}

// keptFile lies under its place in the list.
type keptFile struct {
	Path   string      `json:"path"` // in the checkout
	Mode   fs.FileMode `json:"mode"`
	Digest string      `json:"digest,omitempty"` // hex of SHA-256
	Size   int64       `json:"size,omitempty"`
	Link   string      `json:"link,omitempty"` // of a link: where it leads
}

const (
	resultName = "result.json"
	mostKept   = 1 << 30             // bytes of one step
	allKept    = 4 << 30             // bytes of one store
	keptFor    = 14 * 24 * time.Hour // since it was used last
)

// trees are those whose results may be taken: the very same one, whoever ran it, and the master copy's that the checkout was made
// upon. What another change left is nobody's: a step may read more than it says, or its author may want it to.
func (r *run) trees() []string {
	if r.spec.Base == "" || r.spec.Base == r.spec.Tree {
		return []string{r.spec.Tree}
	}
	return []string{r.spec.Tree, r.spec.Base}
}

// find looks for what an earlier run left under a name.
func (r *run) find(name string) (k kept, there bool) {
	if name == "" {
		return kept{}, false
	}
	for _, tree := range r.trees() {
		k = kept{} // the one before may have left something in it
		folder := filepath.Join(r.spec.Kept, tree, name)
		text, err := os.ReadFile(filepath.Join(folder, resultName))
		if err == nil {
			err = json.Unmarshal(text, &k)
		} else if _, there := os.Lstat(folder); there != nil {
			continue
		}
		if k.at = folder; err == nil {
			used(folder) // first, so that it is not swept meanwhile
			return k, true
		}
		// It would be in the way of a good one.
		_, _ = fmt.Fprintf(r.log, "a kept result can not be read: %v\n", errors.Join(err, discard(folder)))
	}
	return kept{}, false
}

// used marks what is kept as used now.
func used(folder string) {
	now := time.Now()
	_ = os.Chtimes(folder, now, now)
}

// whole says whether all that was kept is still there, and what it was; else it goes, and its step is run. What another builder has is
// fetched.
func (r *run) whole(ctx context.Context, name string, k *kept) bool {
	if k.from != "" {
		if err := r.fetch(ctx, name, k); err != nil {
			_, _ = fmt.Fprintf(r.log, "the result of %s of another builder is not taken: %v\n", name, err)
			return false
		}
	}
	for i, file := range k.Files {
		if file.Link != "" {
			continue
		}
		if err := same(filepath.Join(k.at, fmt.Sprint(i)), file.Digest); err != nil {
			_, _ = fmt.Fprintf(r.log, "the kept result of %s is not taken: %s: %v\n", name, file.Path, errors.Join(err, discard(k.at)))
			return false
		}
	}
	return true
}

func same(name, digest string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != digest {
		return errors.New("it is not what was kept")
	}
	return nil
}

// discard removes what is kept at once as far as others can see, so that nobody finds half of it.
func discard(folder string) error {
	away, err := os.MkdirTemp(filepath.Dir(folder), unfinished)
	if err != nil {
		return err
	}
	if err = os.Rename(folder, filepath.Join(away, "gone")); errors.Is(err, fs.ErrNotExist) {
		err = nil // another's doing
	}
	return errors.Join(err, executor.RemoveAll(away))
}

// reuse puts what a task left into the checkout, and reads its reports, as if it had been run.
func (r *run) reuse(t definition.Task, k kept) result {
	s := Step{Name: t.Name, Outcome: Success, Reused: k.Run, Started: r.spec.Now()}
	_, _ = fmt.Fprintf(r.log.of(t.Name), "= %s is not run: nothing that it depends on has changed since run %s of %s, whose result is taken\n", t.Name, k.Run, k.Finished.UTC().Format(time.RFC3339))
	found := findings{}
	err := r.clear(t.Step.Reports)
	for i, file := range k.Files {
		if err == nil {
			err = r.restore(filepath.Join(k.at, fmt.Sprint(i)), file)
		}
	}
	if err == nil {
		var secrets map[string]string
		if secrets, err = r.secrets(t.Step); err == nil {
			found, err = r.read(t.Name, t.Step.Reports, values(secrets))
		}
	}
	if err != nil { // the run is the machinery's to repeat, and then it is not there
		err = fmt.Errorf("the kept result of %s: %w", t.Name, errors.Join(err, discard(k.at)))
		s.Outcome, s.Cause, s.Reason = Error, CauseMachinery, err.Error()
	}
	if err == nil && filepath.Dir(k.at) != r.own() {
		placed, err := r.carry(&k, r.keys[t.Name])
		if err != nil {
			_, _ = fmt.Fprintf(r.log.of(t.Name), "the result of %s is not kept for what is made upon this: %v\n", t.Name, err)
		}
		if placed {
			r.share(t.Name, k)
		}
	}
	s.Finished = r.spec.Now()
	return result{step: s, findings: found, unisolated: k.Unisolated, err: err}
}

// own is the folder of what is kept of the checkout's tree.
func (r *run) own() string { return filepath.Join(r.spec.Kept, r.spec.Tree) }

// carry keeps a result of the master copy for this tree too, from where it lies from then on: once it is merged, it is what others are made
// upon.
func (r *run) carry(k *kept, key string) (placed bool, err error) {
	placed, err = r.fill(key, k, func(folder string) error {
		names := []string{}
		for i, file := range k.Files {
			if file.Link == "" {
				names = append(names, fmt.Sprint(i))
			}
		}
		if _, err := os.Lstat(filepath.Join(k.at, putName)); err == nil {
			names = append(names, putName)
		}
		for _, name := range names {
			if err := os.Link(filepath.Join(k.at, name), filepath.Join(folder, name)); err != nil {
				return err
			}
		}
		return nil
	})
	if placed {
		k.at = filepath.Join(r.own(), key)
	}
	return placed, err
}

// forget keeps nothing of what the run's steps left, for nobody: where one changed what it does not say, a run that takes its result has
// another checkout.
func (r *run) forget() (err error) {
	for _, key := range r.keys {
		if _, there := os.Lstat(filepath.Join(r.own(), key)); key != "" && there == nil {
			err = errors.Join(err, discard(filepath.Join(r.own(), key)))
		}
	}
	r.report.Fresh = nil
	return err
}

// fill makes a folder of what is kept of the checkout's tree, at once as far as others can see. It is not placed where another run was
// first: what lies there then is that one's, and need not be the same.
func (r *run) fill(name string, k *kept, put func(folder string) error) (placed bool, err error) {
	if err := os.MkdirAll(r.own(), 0o700); err != nil {
		return false, err
	}
	folder, err := os.MkdirTemp(r.own(), unfinished)
	if err != nil {
		return false, err
	}
	defer func() {
		if !placed {
			err = errors.Join(err, discard(folder))
		}
	}()
	if err := put(folder); err != nil {
		return false, err
	}
	text, err := json.Marshal(k)
	if err != nil {
		return false, err
	}
	if err := os.WriteFile(filepath.Join(folder, resultName), text, 0o600); err != nil {
		return false, err
	}
	err = os.Rename(folder, filepath.Join(r.own(), name))
	if errors.Is(err, fs.ErrExist) {
		return false, nil // another run was first
	}
	return err == nil, err
}

// restore puts one file into the checkout. Its content was looked at when the run was planned, and none but builders write to the store.
func (r *run) restore(from string, file keptFile) error {
	if err := r.root.MkdirAll(path.Dir(file.Path), 0o755); err != nil {
		return err
	}
	if err := r.root.RemoveAll(file.Path); err != nil {
		return err
	}
	if file.Link != "" {
		return r.root.Symlink(file.Link, file.Path)
	}
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	to, err := r.root.OpenFile(file.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, file.Mode.Perm())
	if err != nil {
		return err
	}
	size, err := io.Copy(to, source) // by the kernel
	if err == nil && size != file.Size {
		err = fmt.Errorf("%s has %d bytes, not the %d that were kept", file.Path, size, file.Size)
	}
	return errors.Join(err, to.Close())
}

// keep files the result of a task that succeeded. What goes wrong costs a later run its time, and is said in the log.
func (r *run) keep(t definition.Task, unisolated string) {
	key := r.keys[t.Name]
	if key == "" {
		return
	}
	if err := r.file(t, key, unisolated); err != nil {
		_, _ = fmt.Fprintf(r.log.of(t.Name), "the result of %s is not kept: %v\n", t.Name, err)
	}
}

func (r *run) file(t definition.Task, key, unisolated string) error {
	names, err := r.glob(slices.Concat(t.Step.Outputs, t.Step.Reports.Tests, t.Step.Reports.Coverage), true)
	if err != nil {
		return err
	}
	k := kept{Step: t.Name, Run: r.spec.Name, Finished: r.spec.Now(), Unisolated: unisolated, Files: make([]keptFile, len(names))}
	placed, err := r.fill(key, &k, func(folder string) error {
		left := int64(mostKept)
		for i, name := range names {
			file, size, err := r.copyOut(name, filepath.Join(folder, fmt.Sprint(i)), left)
			if err != nil {
				return err
			}
			left -= size
			k.Files[i] = file
		}
		return nil
	})
	if placed {
		k.at = filepath.Join(r.own(), key)
		r.share(t.Name, k)
	}
	return err
}

// unfinished begins the names of folders that are being written or removed.
const unfinished = "tmp-"

func (r *run) copyOut(name, to string, most int64) (keptFile, int64, error) {
	if link, err := r.root.Readlink(name); err == nil {
		return keptFile{Path: name, Link: link}, 0, nil
	}
	from, err := r.root.Open(name)
	if err != nil {
		return keptFile{}, 0, err
	}
	defer func() { _ = from.Close() }()
	info, err := from.Stat()
	if err != nil {
		return keptFile{}, 0, err
	}
	file, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return keptFile{}, 0, err
	}
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(file, sum), io.LimitReader(from, most+1))
	err = errors.Join(err, file.Close())
	if size > most {
		err = errors.Join(err, fmt.Errorf("it left more than %d bytes", int64(mostKept)))
	}
	return keptFile{Path: name, Mode: info.Mode().Perm(), Digest: hex.EncodeToString(sum.Sum(nil)), Size: size}, size, err
}

// sweep removes what was not used for long, and what was used least lately where there is too much; what several trees have of the
// same counts once. Other processes may be reading: theirs fails then, and is repeated. What is named as spared stays.
func sweep(store string, now time.Time, most int64, spared string) error {
	folders, err := filepath.Glob(filepath.Join(store, "*", "*"))
	if err != nil {
		return err
	}
	type one struct {
		at    string
		used  time.Time
		sizes map[uint64]int64 // of files, by inode
	}
	var all []one
	for _, at := range folders {
		info, err := os.Stat(at)
		if err != nil {
			continue // swept by another
		}
		if strings.HasPrefix(filepath.Base(at), unfinished) && now.Sub(info.ModTime()) < time.Hour {
			continue // somebody is at it
		}
		o := one{at: at, used: info.ModTime(), sizes: map[uint64]int64{}}
		files, _ := os.ReadDir(at)
		for _, f := range files {
			info, err := f.Info()
			if err != nil {
				continue
			}
			if state, is := info.Sys().(*syscall.Stat_t); is {
				o.sizes[state.Ino] = info.Size()
				if info.IsDir() {
					o.sizes[state.Ino] = cacheBytes(at)
				}
			}
		}
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b one) int { return cmp.Or(b.used.Compare(a.used), strings.Compare(a.at, b.at)) })
	var gone []error
	counted := map[uint64]bool{}
	for _, o := range all {
		for inode, size := range o.sizes {
			if !counted[inode] {
				counted[inode], most = true, most-size
			}
		}
		if filepath.Base(o.at) != spared && (most < 0 || now.Sub(o.used) > keptFor) {
			gone = append(gone, discard(o.at))
			_ = os.Remove(filepath.Dir(o.at)) // when that was the last of its tree
		}
	}
	return errors.Join(gone...)
}

// cacheBytes is what a kept cache holds.
func cacheBytes(at string) int64 {
	k := kept{}
	if text, err := os.ReadFile(filepath.Join(at, resultName)); err == nil {
		_ = json.Unmarshal(text, &k)
	}
	return k.Bytes
}

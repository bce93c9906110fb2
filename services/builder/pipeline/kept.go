package pipeline

import (
	"cmp"
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
	"time"

	"github.com/lemnis/lemnis/services/builder/definition"
)

// kept is what a step that succeeded left: a folder under its key, with this as result.json beside the files.
type kept struct {
	Step       string     `json:"step"`
	Run        string     `json:"run"` // that ran it
	Finished   time.Time  `json:"finished"`
	Unisolated string     `json:"unisolated,omitempty"`
	Files      []keptFile `json:"files"` // outputs and reports
}

// keptFile lies under its place in the list.
type keptFile struct {
	Path   string      `json:"path"` // in the checkout
	Mode   fs.FileMode `json:"mode"`
	Digest string      `json:"digest,omitempty"` // hex of SHA-256
	Link   string      `json:"link,omitempty"`   // of a link: where it leads
}

const (
	resultName = "result.json"
	mostKept   = 1 << 30             // bytes of one step
	allKept    = 4 << 30             // bytes of one store
	keptFor    = 14 * 24 * time.Hour // since it was used last
)

// find looks for the result of an earlier run.
func (r *run) find(key string) (k kept, there bool) {
	if key == "" {
		return kept{}, false
	}
	folder := filepath.Join(r.spec.Kept, key)
	text, err := os.ReadFile(filepath.Join(folder, resultName))
	if err == nil {
		err = json.Unmarshal(text, &k)
	} else if _, there := os.Lstat(folder); there != nil {
		return kept{}, false
	}
	if err != nil { // it would be in the way of a good one
		_, _ = fmt.Fprintf(r.log, "a kept result can not be read: %v\n", errors.Join(err, discard(folder)))
	}
	return k, err == nil
}

// whole says whether all that was kept is still there, and what it was; else it goes, and its step is run.
func (r *run) whole(name string, k kept) bool {
	folder := filepath.Join(r.spec.Kept, r.keys[name])
	now := time.Now()
	_ = os.Chtimes(filepath.Join(folder, resultName), now, now) // first, so that it is not swept meanwhile
	for i, file := range k.Files {
		if file.Link != "" {
			continue
		}
		if err := same(filepath.Join(folder, fmt.Sprint(i)), file.Digest); err != nil {
			_, _ = fmt.Fprintf(r.log, "the kept result of %s is not taken: %s: %v\n", name, file.Path, errors.Join(err, discard(folder)))
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
	return errors.Join(err, os.RemoveAll(away))
}

// reuse puts what a task left into the checkout, and reads its reports, as if it had been run.
func (r *run) reuse(t definition.Task, k kept) result {
	s := Step{Name: t.Name, Outcome: Success, Reused: k.Run, Started: r.spec.Now()}
	_, _ = fmt.Fprintf(r.log.of(t.Name), "= %s is not run: nothing that it depends on has changed since run %s of %s, whose result is taken\n", t.Name, k.Run, k.Finished.UTC().Format(time.RFC3339))
	folder := filepath.Join(r.spec.Kept, r.keys[t.Name])
	found := findings{}
	err := r.clear(t.Step.Reports)
	for i, file := range k.Files {
		if err == nil {
			err = r.restore(filepath.Join(folder, fmt.Sprint(i)), file)
		}
	}
	if err == nil {
		var secrets map[string]string
		if secrets, err = r.secrets(t.Step); err == nil {
			found, err = r.read(t.Name, t.Step.Reports, values(secrets))
		}
	}
	if err != nil { // the run is the machinery's to repeat, and then it is not there
		err = fmt.Errorf("the kept result of %s: %w", t.Name, errors.Join(err, discard(folder)))
		s.Outcome, s.Cause, s.Reason = Error, CauseMachinery, err.Error()
	}
	now := time.Now()
	_ = os.Chtimes(filepath.Join(folder, resultName), now, now) // used
	s.Finished = r.spec.Now()
	return result{step: s, findings: found, unisolated: k.Unisolated, err: err}
}

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
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(to, sum), source)
	if err := errors.Join(err, to.Close()); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != file.Digest {
		return fmt.Errorf("%s is not what was kept", file.Path)
	}
	return nil
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
	if err := os.MkdirAll(r.spec.Kept, 0o700); err != nil {
		return err
	}
	folder, err := os.MkdirTemp(r.spec.Kept, unfinished)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	names, err := r.glob(slices.Concat(t.Step.Outputs, t.Step.Reports.Tests, t.Step.Reports.Coverage), true)
	if err != nil {
		return err
	}
	k := kept{Step: t.Name, Run: r.spec.Name, Finished: r.spec.Now(), Unisolated: unisolated}
	left := int64(mostKept)
	for i, name := range names {
		file, size, err := r.copyOut(name, filepath.Join(folder, fmt.Sprint(i)), left)
		if err != nil {
			return err
		}
		left -= size
		k.Files = append(k.Files, file)
	}
	text, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, resultName), text, 0o600); err != nil {
		return err
	}
	err = os.Rename(folder, filepath.Join(r.spec.Kept, key))
	if errors.Is(err, fs.ErrExist) {
		return nil // another run was first
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
	return keptFile{Path: name, Mode: info.Mode().Perm(), Digest: hex.EncodeToString(sum.Sum(nil))}, size, err
}

// sweep removes what was not used for long, and what was used least lately where there is too much. Other processes may be
// reading: theirs fails then, and is repeated.
func sweep(store string, now time.Time, most int64) error {
	entries, err := os.ReadDir(store)
	if err != nil {
		return err
	}
	type one struct {
		at   string
		used time.Time
		size int64
	}
	var all []one
	for _, e := range entries {
		o := one{at: filepath.Join(store, e.Name())}
		files, _ := os.ReadDir(o.at)
		for _, f := range files {
			if info, err := f.Info(); err == nil {
				o.size += info.Size()
				if info.ModTime().After(o.used) {
					o.used = info.ModTime()
				}
			}
		}
		if strings.HasPrefix(e.Name(), unfinished) {
			if info, err := e.Info(); err != nil || now.Sub(info.ModTime()) < time.Hour {
				continue // somebody is at it
			}
		}
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b one) int { return cmp.Or(b.used.Compare(a.used), strings.Compare(a.at, b.at)) })
	var gone []error
	for _, o := range all {
		if most -= o.size; most < 0 || now.Sub(o.used) > keptFor {
			gone = append(gone, discard(o.at))
		}
	}
	return errors.Join(gone...)
}

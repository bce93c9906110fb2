package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lemnis/lemnis/services/builder/definition"
)

// pattern compiles a pattern over paths with slashes: ** is any folders, * and ? are within a name, and a folder's name is all
// that is in it.
func pattern(text string) *regexp.Regexp {
	var b strings.Builder
	text = path.Clean(text)
	for i := 0; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], "**/"):
			b.WriteString("(?:.*/)?")
			i += 2
		case strings.HasPrefix(text[i:], "**"):
			b.WriteString(".*")
			i++
		case text[i] == '*':
			b.WriteString("[^/]*")
		case text[i] == '?':
			b.WriteString("[^/]")
		default:
			b.WriteString(regexp.QuoteMeta(text[i : i+1]))
		}
	}
	return regexp.MustCompile("^(?s:" + b.String() + ")(?:/.*)?$")
}

// glob lists the regular files of the checkout that one of the patterns names, and the links where they are asked for. What can
// not be looked into is left out, and told: rights are the project's to set.
func (r *run) glob(patterns []string, links bool) (files []string, unread error) {
	var forms []*regexp.Regexp
	plain := true
	for _, p := range patterns {
		forms = append(forms, pattern(p))
		plain = plain && !strings.ContainsAny(p, "*?")
	}
	seen := map[string]bool{}
	visit := func(at string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			unread = errors.Join(unread, err)
			return nil
		case entry.IsDir() && entry.Name() == ".git":
			return fs.SkipDir
		case seen[at] || !entry.Type().IsRegular() && (!links || entry.Type() != fs.ModeSymlink):
			return nil
		}
		for _, form := range forms {
			if form.MatchString(at) {
				seen[at], files = true, append(files, at)
				return nil
			}
		}
		return nil
	}
	if !plain {
		patterns = []string{"."}
	}
	for _, p := range patterns { // names of files or folders: the rest of the tree need not be looked at
		unread = errors.Join(unread, fs.WalkDir(r.root.FS(), path.Clean(p), visit))
	}
	return files, unread
}

// clear removes reports of an earlier run, so that they are not taken for this one's.
func (r *run) clear(reports definition.Reports) error {
	files, _ := r.glob(append(append([]string(nil), reports.Tests...), reports.Coverage...), false) // what is not seen here is not read either
	for _, file := range files {
		if err := r.root.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// takeCaches puts a step's cached folders into the checkout; giveBack takes them out again. They are moved, not copied: of two
// runs at once the second begins without. Whatever is wrong with a cache costs time only, and is said in the log.
func (r *run) takeCaches(s definition.Step) (giveBack func()) {
	if r.spec.Caches == "" || len(s.Cache) == 0 {
		return func() {}
	}
	complain := func(folder string, err error) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			_, _ = fmt.Fprintf(r.log.of(s.Name), "cache %s: %v\n", folder, err)
		}
	}
	kept := map[string]string{} // place in the checkout to place in the store
	for _, folder := range s.Cache {
		sum := sha256.Sum256([]byte(s.Name + "\x00" + folder))
		kept[path.Clean(folder)] = filepath.Join(r.spec.Caches, hex.EncodeToString(sum[:10]))
	}
	for folder, store := range kept {
		err := errors.Join(os.MkdirAll(r.spec.Caches, 0o700), r.root.MkdirAll(path.Dir(folder), 0o755))
		if _, there := r.root.Lstat(folder); err == nil && there != nil { // else the checkout has it itself
			err = r.move(store, folder, true)
		}
		complain(folder, err)
	}
	return func() {
		for folder, store := range kept {
			info, err := r.root.Lstat(folder)
			if err == nil && info.IsDir() {
				err = errors.Join(os.RemoveAll(store), r.move(store, folder, false))
			}
			complain(folder, err)
		}
	}
}

// move moves a folder between the store and the checkout. Its parent there is held open while it is moved: steps that run
// beside this one may put a link in its place, and what is opened under the root lies within it.
func (r *run) move(store, folder string, in bool) error {
	parent, err := r.root.Open(path.Dir(folder))
	if err != nil {
		return err
	}
	defer func() { _ = parent.Close() }()
	kept, err := os.Open(filepath.Dir(store))
	if err != nil {
		return err
	}
	defer func() { _ = kept.Close() }()
	from, to := parent, kept
	oldName, newName := path.Base(folder), filepath.Base(store)
	if in {
		from, to, oldName, newName = to, from, newName, oldName
	}
	if err := unix.Renameat(int(from.Fd()), oldName, int(to.Fd()), newName); err != nil {
		return &os.LinkError{Op: "renameat", Old: oldName, New: newName, Err: err}
	}
	if info, err := os.Lstat(store); !in && err == nil && !info.IsDir() { // put in its place at the last moment
		return errors.Join(fmt.Errorf("%s is no folder any more", folder), os.Remove(store))
	}
	return nil
}

// pack takes the packaged file out of the checkout.
func (r *run) pack(name string) error {
	info, err := r.root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		r.fail(StepPackage, CausePackage, fmt.Sprintf("%s is to be packaged, and no step left a file there", name))
		return nil // it is the project's: a step of the report
	}
	from, err := r.root.Open(name)
	if err != nil {
		r.fail(StepPackage, CausePackage, fmt.Sprintf("%s is to be packaged, and can not be read: %v", name, err))
		return nil
	}
	defer func() { _ = from.Close() }()
	// A folder of its own: the name is the project's choice and must not meet build.log.
	to := filepath.Join(r.spec.Output, "bin", path.Base(name))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755) //nolint:gosec // it is a program
	if err != nil {
		return err
	}
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(file, sum), from)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	r.report.Executable, r.report.Size = to, size
	r.report.Digest = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	return nil
}

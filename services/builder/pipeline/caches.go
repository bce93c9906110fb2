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
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lemnis/lemnis/services/builder/definition"
)

// cacheFiles is the folder of a kept cache that has what was in the checkout.
const cacheFiles = "files"

// takeCaches puts a step's cached folders into the checkout; giveBack keeps them, for runs of the same tree and of what is made
// upon it once it is the master copy. They are copied in, never moved: what is kept is other runs' too. Whatever is wrong with a
// cache costs time only, and is said in the log.
func (r *run) takeCaches(s definition.Step) (giveBack func()) {
	if r.spec.Kept == "" || len(s.Cache) == 0 {
		return func() {}
	}
	complain := func(folder string, err error) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			_, _ = fmt.Fprintf(r.log.of(s.Name), "cache %s: %v\n", folder, err)
		}
	}
	names := map[string]string{} // place in the checkout to name in the store
	for _, folder := range s.Cache {
		sum := sha256.Sum256([]byte(s.Name + "\x00" + folder))
		names[path.Clean(folder)] = "cache-" + hex.EncodeToString(sum[:10])
	}
	for folder, name := range names {
		if file := r.committed(folder); file != "" { // it is moved out of the checkout when it is kept, and would be missing there
			complain(folder, fmt.Errorf("it is not kept: the commit has %s", file))
			delete(names, folder)
			continue
		}
		err := r.root.MkdirAll(path.Dir(folder), 0o755)
		if _, there := r.root.Lstat(folder); err == nil && there != nil { // else the checkout has it itself
			if k, kept := r.find(name); kept {
				err = r.copyIn(filepath.Join(k.at, cacheFiles), folder)
			}
		}
		complain(folder, err)
	}
	return func() {
		for folder, name := range names {
			info, err := r.root.Lstat(folder)
			if err == nil && info.IsDir() {
				err = r.keepCache(s.Name, folder, name)
			}
			complain(folder, err)
		}
	}
}

// committed is a file of the commit in a folder; empty when there is none.
func (r *run) committed(folder string) (first string) {
	for file := range r.spec.Files {
		if (file == folder || strings.HasPrefix(file, folder+"/")) && (first == "" || file < first) {
			first = file
		}
	}
	return first
}

// keepCache moves a folder out of the checkout.
func (r *run) keepCache(step, folder, name string) error {
	k := kept{Step: step, Run: r.spec.Name, Finished: r.spec.Now()}
	_, err := r.fill(name, &k, func(at string) error {
		files := filepath.Join(at, cacheFiles)
		if err := r.moveOut(folder, files); err != nil {
			return err
		}
		var err error
		if k.Bytes, err = bytesIn(files); err == nil && k.Bytes > mostKept {
			err = fmt.Errorf("it holds more than %d bytes, and is not kept", int64(mostKept))
		}
		if err == nil {
			err = discard(filepath.Join(r.own(), name)) // of an earlier run
		}
		return err
	})
	return err
}

func bytesIn(folder string) (total int64, err error) {
	err = filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}

// copyIn copies a kept folder into the checkout: files, folders and links, with the files' times. All or nothing.
func (r *run) copyIn(from, folder string) (err error) {
	source, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	if err := r.root.Mkdir(folder, 0o755); err != nil {
		return err
	}
	// Held open: steps that run beside this one may put a link in its place, or in that of a parent.
	to, err := r.root.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.root.RemoveAll(folder))
		}
		_ = to.Close()
	}()
	return copyTree(source, to)
}

// copyTree copies what a folder has and the other has not.
func copyTree(source, to *os.Root) error {
	return fs.WalkDir(source.FS(), ".", func(at string, entry fs.DirEntry, err error) error {
		if err != nil || at == "." {
			return err
		}
		switch entry.Type() {
		case fs.ModeDir:
			return to.MkdirAll(at, 0o755)
		case fs.ModeSymlink:
			link, err := source.Readlink(at)
			if err != nil {
				return err
			}
			return ignoreThere(to.Symlink(link, at))
		case 0:
			return ignoreThere(copyFile(source, to, at))
		}
		return nil // a socket or a pipe is nothing without whoever made it
	})
}

func ignoreThere(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func copyFile(source, to *os.Root, at string) error {
	from, err := source.Open(at)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	file, err := to.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(file, from)
	return errors.Join(err, file.Close(), to.Chtimes(at, info.ModTime(), info.ModTime()))
}

// moveOut moves a folder out of the checkout. Its parent there is held open while it is moved: steps that run beside this one may
// put a link in its place, and what is opened under the root lies within it.
func (r *run) moveOut(folder, to string) error {
	if err := r.move(folder, to); err != nil {
		return err
	}
	if info, err := os.Lstat(to); err == nil && !info.IsDir() { // put in its place at the last moment
		return errors.Join(fmt.Errorf("%s is no folder any more", folder), os.Remove(to))
	}
	return nil
}

func (r *run) move(name, to string) error {
	parent, err := r.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer func() { _ = parent.Close() }()
	if err := unix.Renameat(int(parent.Fd()), path.Base(name), unix.AT_FDCWD, to); err != nil {
		return &os.LinkError{Op: "renameat", Old: name, New: to, Err: err}
	}
	return nil
}

package pipeline

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// markUsed undoes what the go command does to a file of the build cache that it uses, and that was not used for an hour: it sets the
// file's time, and the layer gets a copy of it. That is some thousand files for a small program, in every run and in all that is kept,
// unless the file below is what gets the time.
func (r *run) markUsed() error {
	l := &r.layers
	if l.copied {
		return nil
	}
	const name = "GOCACHE"
	for _, task := range l.order {
		upper, lower := filepath.Join(l.upper[task], name, "upper"), append(l.below(task, name), r.env.caches[name])
		emptied := map[string]bool{}
		err := filepath.WalkDir(upper, func(at string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return ignoreMissing(err)
			}
			file, err := filepath.Rel(upper, at)
			if err != nil {
				return err
			}
			below := seen(lower, file)
			if !alike(at, below) {
				return nil
			}
			emptied[filepath.Dir(at)] = true
			used(below)
			return os.Remove(at) //nolint:gosec // the steps that wrote it have ended
		})
		if err != nil {
			return err
		}
		for folder := range emptied {
			_ = os.Remove(folder) // where nothing else is in it
		}
	}
	return nil
}

// seen is the file that a name means in folders that lie over one another; empty: none.
func seen(folders []string, name string) string {
	for _, folder := range folders {
		if _, err := os.Lstat(filepath.Join(folder, name)); err == nil {
			return filepath.Join(folder, name)
		}
	}
	return ""
}

// alike says whether two names are of regular files that have the same content.
func alike(one, other string) bool {
	a, errA := os.Lstat(one)
	b, errB := os.Lstat(other)
	if errA != nil || errB != nil || !a.Mode().IsRegular() || !b.Mode().IsRegular() || a.Size() != b.Size() {
		return false
	}
	from, err := os.Open(one)
	if err != nil {
		return false
	}
	defer func() { _ = from.Close() }()
	to, err := os.Open(other)
	if err != nil {
		return false
	}
	defer func() { _ = to.Close() }()
	p, q := make([]byte, 32<<10), make([]byte, 32<<10)
	for {
		n, end := io.ReadFull(from, p)
		m, _ := io.ReadFull(to, q)
		if !bytes.Equal(p[:n], q[:m]) {
			return false
		}
		if end != nil {
			return errors.Is(end, io.EOF) || errors.Is(end, io.ErrUnexpectedEOF)
		}
	}
}

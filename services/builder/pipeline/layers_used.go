package pipeline

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// What the go command names in its build cache: folders, and in them what was done (-a), and what came of that (-d).
var (
	goFolder = regexp.MustCompile(`^[0-9a-f]{2}$`)
	goFile   = regexp.MustCompile(`^[0-9a-f]{64}-[ad]$`)
)

// Of what a run's steps may only have used, so many bytes of a file and in all are read.
const (
	mostUsed = 8 << 20
	allUsed  = 256 << 20
)

// markUsed undoes what the go command does to a file of its build cache that it uses, and that was not used for an hour: it sets the
// file's time, and the layer gets a copy of it. That is some thousand files for a small program, in every run and in all that is kept,
// unless what lies below is what gets the time, and the copy goes. What can not be marked, or is too much to read, keeps its copy.
// Folders below are read that builders have made, or the host's operator: links that steps left are not among them. The run has to hold
// the lock.
func (l *layers) markUsed(host string) {
	if !l.on || l.copied {
		return
	}
	var below []string
	for _, folder := range l.lower {
		below = append(below, filepath.Join(folder, goBuilt))
	}
	below = append(below, host)
	left := int64(allUsed)
	for _, task := range l.order {
		upper := filepath.Join(l.upper[task], goBuilt, "upper")
		folders, _ := os.ReadDir(upper)
		for _, folder := range folders {
			at := filepath.Join(upper, folder.Name())
			if !folder.IsDir() || !goFolder.MatchString(folder.Name()) || passable(at, folder) != nil || opaque(at) {
				continue
			}
			gone := false
			files, _ := os.ReadDir(at)
			for _, file := range files {
				if goFile.MatchString(file.Name()) && file.Type().IsRegular() {
					gone = markBelow(filepath.Join(at, file.Name()), below, &left) || gone
				}
			}
			if gone {
				_ = os.Remove(at) // where nothing else is in it
			}
		}
	}
}

// markBelow says whether a file was a copy that has gone, see [layers.markUsed]; left is what may be read yet.
func markBelow(file string, below []string, left *int64) bool {
	name := filepath.Join(filepath.Base(filepath.Dir(file)), filepath.Base(file))
	lies, its := "", fs.FileInfo(nil)
	for _, folder := range below {
		if info, err := os.Lstat(filepath.Join(folder, name)); err == nil {
			lies, its = filepath.Join(folder, name), info
			break
		}
	}
	mine, err := os.Lstat(file)
	if err != nil || its == nil || !its.Mode().IsRegular() || its.Size() != mine.Size() || mine.Size() > min(mostUsed, *left) {
		return false
	}
	*left -= mine.Size()
	one, errOne := os.ReadFile(file)
	other, errOther := os.ReadFile(lies)
	if errOne != nil || errOther != nil || !bytes.Equal(one, other) {
		return false
	}
	if mine.ModTime().After(its.ModTime()) { // not where another task or run has marked it, nor where all was copied for a container
		now := time.Now()
		if os.Chtimes(lies, now, now) != nil {
			return false
		}
	}
	return os.Remove(file) == nil
}

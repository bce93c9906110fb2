package pipeline

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// What the go command names in its build cache: folders, and in them what was done (-a), and what came of that, by its digest (-d).
var (
	goFolder = regexp.MustCompile(`^[0-9a-f]{2}$`)
	goFile   = regexp.MustCompile(`^[0-9a-f]{64}-([ad])$`)
)

// mostAction is more than the go command writes of what was done, in bytes.
const mostAction = 1 << 10

// markUsed undoes what the go command does to a file of its build cache that it uses, and that was not used for an hour: it sets the
// file's time, and the layer gets a copy of it. That is some thousand files for a small program, in every run and in all that is kept,
// unless what lies below is what gets the time, and the copy goes. What can not be marked keeps its copy. Folders below are read that
// builders have made, or the host's operator: links that steps left are not among them. The run has to hold the lock.
func (l *layers) markUsed(host string) {
	if !l.on || l.copied {
		return
	}
	var below []string
	for _, folder := range l.lower {
		below = append(below, filepath.Join(folder, goBuilt))
	}
	below = append(below, host)
	for _, task := range l.order {
		upper := filepath.Join(l.upper[task], goBuilt, "upper")
		folders, _ := os.ReadDir(upper)
		for _, folder := range folders {
			at := filepath.Join(upper, folder.Name())
			if !folder.IsDir() || !goFolder.MatchString(folder.Name()) || opaque(at) || passable(at, folder) != nil {
				continue
			}
			gone := false
			files, _ := os.ReadDir(at)
			for _, file := range files {
				if kind := goFile.FindStringSubmatch(file.Name()); kind != nil && file.Type().IsRegular() {
					gone = markBelow(filepath.Join(at, file.Name()), below, kind[1] == "a") || gone
				}
			}
			if gone {
				_ = os.Remove(at) // where nothing else is in it
			}
		}
	}
}

// markBelow says whether a file was only used, see [layers.markUsed]; whole has it read, where the name does not say what is in it.
func markBelow(file string, below []string, whole bool) bool {
	name := filepath.Join(filepath.Base(filepath.Dir(file)), filepath.Base(file))
	i := slices.IndexFunc(below, func(folder string) bool { _, err := os.Lstat(filepath.Join(folder, name)); return err == nil })
	if i < 0 {
		return false
	}
	lies := filepath.Join(below[i], name)
	mine, errMine := os.Lstat(file)
	its, errIts := os.Lstat(lies)
	if errMine != nil || errIts != nil || !its.Mode().IsRegular() || its.Size() != mine.Size() || !mine.ModTime().After(its.ModTime()) {
		return false
	}
	if whole {
		if mine.Size() > mostAction {
			return false
		}
		one, errOne := os.ReadFile(file)
		other, errOther := os.ReadFile(lies)
		if errOne != nil || errOther != nil || !bytes.Equal(one, other) {
			return false
		}
	}
	now := time.Now()
	return os.Chtimes(lies, now, now) == nil && os.Remove(file) == nil
}

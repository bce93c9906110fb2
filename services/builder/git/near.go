package git

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// nearby is the folder of an origin that lies on this machine as a bare repository in files, else empty. What it holds is read where it
// is, and fetched when the branch is advanced: a fetch is six processes. Its configuration is not read.
func nearby(url string) string {
	folder := strings.TrimPrefix(url, "file://")
	if !filepath.IsAbs(folder) || strings.ContainsAny(folder, ":\"\n%?#") { // what means more than itself, here or in the list of alternates
		return ""
	}
	for _, name := range []string{"objects", "refs"} {
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || !info.IsDir() {
			return ""
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "HEAD")); err != nil {
		return ""
	}
	for _, name := range []string{"reftable", "commondir", "shallow"} { // branches that lie elsewhere, history that is not whole
		if _, err := os.Lstat(filepath.Join(folder, name)); !errors.Is(err, fs.ErrNotExist) {
			return ""
		}
	}
	return filepath.Clean(folder)
}

// errElsewhere says that a reference can not be read from its file.
var errElsewhere = errors.New("the reference is not in a file of its own or in packed-refs")

// refAt reads where a full ref stands in a repository: from its own file, or else, in this order, as git packs them.
func refAt(folder, ref string) (id string, err error) {
	text, err := readRef(filepath.Join(folder, filepath.FromSlash(ref)))
	switch {
	case err == nil:
		if id := strings.TrimSpace(text); isID(id) {
			return id, nil
		}
		return "", errElsewhere // a symbolic one
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
		return "", err
	}
	packed, err := os.ReadFile(filepath.Join(folder, "packed-refs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	line, _, found := bytes.Cut(packed, []byte(" "+ref+"\n"))
	if !found {
		return "", ErrNotFound
	}
	if id := string(line[bytes.LastIndexByte(line, '\n')+1:]); isID(id) {
		return id, nil
	}
	return "", errElsewhere
}

// readRef reads a small regular file; a folder has others, it may be packed.
func readRef(name string) (string, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return "", err
	}
	if info.IsDir() {
		return "", fs.ErrNotExist
	}
	if !info.Mode().IsRegular() || info.Size() > 1024 {
		return "", errElsewhere
	}
	text, err := os.ReadFile(name)
	return string(text), err
}

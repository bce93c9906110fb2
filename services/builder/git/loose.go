package git

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1" //nolint:gosec // it is how git names objects
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// mostLoose is how large an object may be that is read from its file, in bytes; git hands larger ones over in parts.
const mostLoose = 1 << 20

// loose reads an object that has a file of its own, as all have that were pushed lately: by a process it would take a switch to it and
// back. Whatever is not there, is large, or is not what its name says, is git's to read, and to complain of.
func (r *Repository) loose(id string) (kind string, content []byte, is bool) {
	if !isID(id) {
		return "", nil, false
	}
	for _, folder := range []string{r.dir, r.near} {
		if folder == "" {
			continue
		}
		// Without waiting: what is no regular file might have nobody at its other end.
		file, err := os.OpenFile(filepath.Join(folder, "objects", id[:2], id[2:]), os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		info, err := file.Stat()
		if err == nil && info.Mode().IsRegular() {
			kind, content, is = readLoose(file, id)
		}
		_ = file.Close()
		if is {
			return kind, content, true
		}
	}
	return "", nil, false
}

// readLoose reads what git keeps in the file of an object.
func readLoose(file io.Reader, id string) (kind string, content []byte, is bool) {
	packed, err := zlib.NewReader(file)
	if err != nil {
		return "", nil, false
	}
	const mostHead = 32 // "commit 123\x00"
	text, err := io.ReadAll(io.LimitReader(packed, mostLoose+mostHead+1))
	if err != nil {
		return "", nil, false
	}
	head, content, ended := bytes.Cut(text, []byte{0})
	kind, length, _ := strings.Cut(string(head), " ")
	size, err := strconv.Atoi(length)
	if !ended || err != nil || size != len(content) || size > mostLoose {
		return "", nil, false
	}
	sum := naming(len(id) / 2)
	sum.Write(text)
	return kind, content, hex.EncodeToString(sum.Sum(nil)) == id
}

// naming is the hash by which git names objects, of so many bytes.
func naming(width int) hash.Hash {
	if width == sha256.Size {
		return sha256.New()
	}
	return sha1.New() //nolint:gosec // it is how git names objects
}

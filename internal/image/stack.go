package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"syscall"

	"github.com/lemnis/lemnis/internal/excerpt"
)

const (
	// whiteout begins the name of an entry that removes what is below it.
	whiteout = ".wh."
	// opaque is the name of an entry that removes all that is below its folder.
	opaque = ".wh..wh..opq"

	// leastFree is how many bytes an image leaves free on the disk, as builds do.
	leastFree = 128 << 20
	// often is after how many bytes the disk is looked at.
	often = 64 << 20
)

// folder is what is in one; a file is nil.
type folder map[string]folder

// stack is what the layers of an image have, as far as they are read, and what is left for further ones.
type stack struct {
	root  folder
	held  int64 // bytes of memory that names have taken
	most  int64 // bytes of memory for names, and for the headers of one layer
	bytes int64 // of layers that are left
	disk  disk
}

func newStack(dir string) *stack {
	return &stack{root: folder{}, most: mostHeld, bytes: mostBytes, disk: disk{dir: dir}}
}

// fit refuses what is not the same for all who read a layer.
func fit(h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	default:
		return fmt.Errorf("%w: %s is of the unknown type %q", ErrLayer, short(h.Name), h.Typeflag)
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return fmt.Errorf("%w: %s is written as a sparse file", ErrLayer, short(h.Name))
		}
	}
	if !strings.Contains("/"+h.Name, "/"+whiteout) {
		return nil
	}
	dir, name := path.Split(h.Name)
	rest := strings.TrimPrefix(name, whiteout)
	switch {
	case strings.Contains("/"+dir, "/"+whiteout), h.Typeflag != tar.TypeReg, h.Size > 0, rest == "", rest == ".", rest == "..":
	case name == opaque:
		if dir != "" {
			return nil
		}
	case !strings.HasPrefix(rest, whiteout):
		return nil
	}
	return fmt.Errorf("%w: the name %s says that something is removed, and it is no such entry", ErrLayer, short(h.Name))
}

// put adds a layer. An entry that removes something has to meet it: a file of that name would be lost, and engines' entries do. Of folders
// whose content is removed that can not be asked: engines say it of new ones too.
func (t *stack) put(layer []entry) error {
	var emptied []string
	for _, e := range layer {
		dir, name := path.Split(e.name)
		rest, is := strings.CutPrefix(name, whiteout)
		if !is {
			continue
		}
		if name == opaque {
			emptied = append(emptied, path.Clean(dir))
			continue
		}
		in := t.find(path.Clean(dir))
		if _, there := in[rest]; !there {
			return fmt.Errorf("%w: %s says that something is removed that is not there: files of such names can not be packaged", ErrLayer, short(e.name))
		}
		delete(in, rest)
	}
	for _, dir := range emptied {
		clear(t.find(dir))
	}
	for _, e := range layer {
		dir, name := path.Split(e.name)
		if strings.HasPrefix(name, whiteout) {
			continue
		}
		in := t.root
		for part := range strings.SplitSeq(dir, "/") {
			if part != "" {
				in = t.enter(in, part)
			}
		}
		if e.header.Typeflag == tar.TypeDir {
			t.enter(in, name)
		} else {
			t.hold(in, name)
			in[name] = nil
		}
		if t.held > t.most {
			return fmt.Errorf("%w: its names take more than %d bytes", ErrTooLarge, t.most)
		}
	}
	return nil
}

func (t *stack) find(dir string) folder {
	in := t.root
	if dir != "." {
		for part := range strings.SplitSeq(dir, "/") {
			in = in[part]
		}
	}
	return in
}

func (t *stack) enter(in folder, name string) folder {
	if in[name] == nil {
		t.hold(in, name)
		in[name] = folder{}
	}
	return in[name]
}

func (t *stack) hold(in folder, name string) {
	if _, there := in[name]; !there {
		t.held += heldOfDir + int64(len(name))
	}
}

// short is a name for people.
func short(name string) string { return excerpt.Of(name, 200) }

// ErrDiskFull says that what is written leaves too little free on the disk.
var ErrDiskFull = errors.New("the image takes too much of the disk")

// Sparing writes as long as enough is left free on the disk of a folder.
func Sparing(folder string, out io.Writer) io.Writer {
	return io.MultiWriter(out, &counter{disk: &disk{dir: folder}})
}

// disk is looked at now and then while it is written to.
type disk struct {
	dir     string
	written int64 // since it was looked at
}

// took is an error when less is left free than has to be.
func (d *disk) took(n int) error {
	if d.written += int64(n); d.written < often {
		return nil
	}
	d.written = 0
	var now syscall.Statfs_t
	if syscall.Statfs(d.dir, &now) == nil && int64(now.Bavail)*now.Bsize < leastFree {
		return fmt.Errorf("%w: less than %d bytes are left free", ErrDiskFull, leastFree)
	}
	return nil
}

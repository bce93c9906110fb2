package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

const (
	mostContext    = 4 << 30 // bytes of all files
	mostDockerfile = 1 << 20
	ignoreFile     = ".dockerignore"
	outside        = ".lemnis.Dockerfile" // the Dockerfile's name where it is not in the context
)

// ErrContext says that there is no such context as a pipeline asks for.
var ErrContext = errors.New("the context")

// Context is what a Dockerfile's COPY sees. Owners, rights and times are not the machine's: files of the same commit give the same archive.
type Context struct {
	Root       *os.Root  // the checkout: nothing outside of it is read, whatever links say
	Folder     string    // in it; empty: all
	Dockerfile string    // path in the checkout
	Paths      []string  // of the files and links in the checkout that belong to it
	Time       time.Time // of all files
}

// Text reads the Dockerfile.
func (c Context) Text() ([]byte, error) { return c.read(path.Clean(c.Dockerfile), mostDockerfile) }

// open opens a file without waiting for who writes to it, should a step have made it a pipe.
func open(root *os.Root, name string) (*os.File, error) {
	return root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// read reads a file of those that belong to the checkout: another is what a step has left by chance.
func (c Context) read(name string, most int64) ([]byte, error) {
	if !slices.Contains(c.Paths, name) {
		return nil, fmt.Errorf("%w: %s: %w in the commit", ErrContext, name, fs.ErrNotExist)
	}
	file, err := open(c.Root, name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrContext, err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > most {
		return nil, fmt.Errorf("%w: %s is no file of at most %d bytes", ErrContext, name, most)
	}
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrContext, err)
	}
	return text, nil
}

// Write writes the archive without what .dockerignore says, and returns the Dockerfile's name in it. What is wrong with the checkout is
// ErrContext.
func (c Context) Write(out io.Writer) (dockerfile string, err error) {
	folder := path.Clean(c.Folder)
	if info, err := c.Root.Stat(folder); err != nil || !info.IsDir() {
		return "", fmt.Errorf("%w: %s is no folder of the checkout", ErrContext, folder)
	}
	text, err := c.Text()
	if err != nil {
		return "", err
	}
	dockerfile = inside(folder, path.Clean(c.Dockerfile))
	extra := map[string][]byte{dockerfile: text} // these the engine reads, and leaves out itself where they are ignored
	ignored, err := c.read(path.Join(folder, ignoreFile), mostDockerfile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	patterns, err := ignorefile.ReadAll(bytes.NewReader(ignored))
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrContext, ignoreFile, err)
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrContext, ignoreFile, err)
	}
	if dockerfile == "" {
		dockerfile = outside
		ignored = append(ignored, []byte("\n"+outside+"\n"+ignoreFile+"\n")...)
		extra = map[string][]byte{outside: text}
	}
	if len(ignored) > 0 {
		extra[ignoreFile] = ignored
	}
	w := writer{Writer: tar.NewWriter(out), time: c.Time, folders: map[string]bool{".": true}}
	for _, name := range slices.Sorted(slices.Values(c.Paths)) {
		at := inside(folder, name)
		if at == "" || extra[at] != nil {
			continue
		}
		if skip, err := matcher.MatchesOrParentMatches(at); err != nil {
			return "", fmt.Errorf("%w: %s: %w", ErrContext, ignoreFile, err)
		} else if skip {
			continue
		}
		if err := w.add(c.Root, name, at); err != nil {
			return "", err
		}
	}
	for _, name := range []string{ignoreFile, dockerfile} {
		if content, there := extra[name]; there {
			if err := w.put(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}, bytes.NewReader(content)); err != nil {
				return "", err
			}
		}
	}
	return dockerfile, w.Close()
}

// inside is a path as seen from a folder; empty when it is not in there.
func inside(folder, name string) string {
	if folder == "." {
		return name
	}
	at, is := strings.CutPrefix(name, folder+"/")
	if !is {
		return ""
	}
	return at
}

type writer struct {
	*tar.Writer
	time    time.Time
	size    int64
	folders map[string]bool
}

func (w *writer) add(root *os.Root, name, at string) error {
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // a step has removed it
	case err != nil:
		return fmt.Errorf("%w: %w", ErrContext, err)
	case info.Mode().Type() == fs.ModeSymlink:
		to, err := root.Readlink(name)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrContext, err)
		}
		return w.put(&tar.Header{Typeflag: tar.TypeSymlink, Name: at, Linkname: to, Mode: 0o777}, nil)
	case !info.Mode().IsRegular():
		return nil
	}
	file, err := open(root, name)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrContext, err)
	}
	defer func() { _ = file.Close() }()
	if info, err = file.Stat(); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is no file any more", ErrContext, name)
	}
	mode := int64(0o644)
	if info.Mode()&0o100 != 0 {
		mode = 0o755
	}
	if w.size += info.Size(); w.size > mostContext {
		return fmt.Errorf("%w has more than %d bytes", ErrContext, int64(mostContext))
	}
	return w.put(&tar.Header{Typeflag: tar.TypeReg, Name: at, Mode: mode, Size: info.Size()}, file)
}

// put writes a file, and the folders that it is in.
func (w *writer) put(h *tar.Header, content io.Reader) error {
	var missing []string
	for at := path.Dir(h.Name); !w.folders[at]; at = path.Dir(at) {
		w.folders[at], missing = true, append(missing, at)
	}
	for _, at := range slices.Backward(missing) {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: at + "/", Mode: 0o755, ModTime: w.time}); err != nil {
			return err
		}
	}
	h.ModTime = w.time
	if err := w.WriteHeader(h); err != nil || content == nil {
		return err
	}
	n, err := io.Copy(w, io.LimitReader(content, h.Size))
	if err == nil && n < h.Size {
		err = fmt.Errorf("%w: %s became shorter while it was read", ErrContext, h.Name)
	}
	return err
}

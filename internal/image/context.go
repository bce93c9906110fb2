package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
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
	mostPatterns   = 1000 // of .dockerignore, each of which is held against each file and the folders that it is in
	mostPattern    = 1000 // bytes
	ignoreFile     = ".dockerignore"
	outside        = ".lemnis.Dockerfile" // the Dockerfile's name where it is not in the context
)

// ErrChanged is an [ErrContext] of a file that a step changed or removed.
var ErrChanged = errors.New("is not as it was before the steps: the step that changes it has to name it under outputs")

// ErrContext says that there is no such context as a pipeline asks for.
var ErrContext = errors.New("the context")

// Context is what a Dockerfile's COPY sees. Owners, rights and times are not the machine's: files of the same commit give the same archive.
type Context struct {
	Root       *os.Root  // the checkout: nothing outside of it is read, whatever links say
	Folder     string    // in it; empty: all
	Dockerfile string    // path in the checkout
	Paths      []string  // of the files and links in the checkout that belong to it
	Time       time.Time // of all files
	As         Sums      // what of these has to be as it says: a step that changes it need not be run another time
}

// Sums are SHA-256 of files and links, by their path in the checkout.
type Sums map[string][sha256.Size]byte

// SumsOf reads all of these that are there.
func SumsOf(ctx context.Context, root *os.Root, paths iter.Seq[string]) (Sums, error) {
	sums := Sums{}
	for name := range paths {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m, err := look(root, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && m.content != nil {
			_, err = io.Copy(m.sum, m.content)
			err = errors.Join(err, m.close())
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrContext, err)
		}
		sums[name] = m.digest()
	}
	return sums, nil
}

// member is a file or link of a checkout.
type member struct {
	tar.Header
	content *os.File  // of a file
	sum     hash.Hash // of the header; what is read of the content belongs to it too
}

func (m member) digest() [sha256.Size]byte { return [sha256.Size]byte(m.sum.Sum(nil)) }

// look looks at one, without waiting for who writes to it, should a step have made it a pipe. What is neither file nor link has no type.
func look(root *os.Root, name string) (member, error) {
	m := member{sum: sha256.New()}
	info, err := root.Lstat(name)
	if err != nil {
		return m, err
	}
	if info.Mode().Type() == fs.ModeSymlink {
		m.Typeflag, m.Mode = tar.TypeSymlink, 0o777
		m.Linkname, err = root.Readlink(name)
	} else if info.Mode().IsRegular() {
		m.content, err = root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			info, err = m.content.Stat()
		}
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%s is no file any more", name)
		}
		if err != nil {
			return m, errors.Join(err, m.close())
		}
		m.Typeflag, m.Mode, m.Size = tar.TypeReg, 0o644, info.Size()
		if info.Mode()&0o100 != 0 {
			m.Mode = 0o755
		}
	}
	_, _ = fmt.Fprintf(m.sum, "%c %o %s\x00", m.Typeflag, m.Mode, m.Linkname)
	return m, err
}

func (m member) close() error {
	if m.content == nil {
		return nil
	}
	return m.content.Close()
}

// Text reads the Dockerfile.
func (c Context) Text() ([]byte, error) { return c.read(path.Clean(c.Dockerfile), mostDockerfile) }

// read reads a file of those that belong to the checkout: another is what a step has left by chance.
func (c Context) read(name string, most int64) ([]byte, error) {
	if !slices.Contains(c.Paths, name) {
		return nil, fmt.Errorf("%w: %s: %w in the commit", ErrContext, name, fs.ErrNotExist)
	}
	m, err := c.look(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = m.close() }()
	if m.content == nil {
		if err := c.same(name, m); err != nil {
			return nil, err
		}
	}
	if m.content == nil || m.Size > most {
		return nil, fmt.Errorf("%w: %s is no file of at most %d bytes", ErrContext, name, most)
	}
	text, err := io.ReadAll(io.TeeReader(io.LimitReader(m.content, most+1), m.sum))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrContext, err)
	}
	return text, c.same(name, m)
}

// look looks at one. What could be looked at before the steps and can not be now, whatever is in the way, is not as it was.
func (c Context) look(name string) (member, error) {
	m, err := look(c.Root, name)
	if _, told := c.As[name]; told && err != nil {
		return m, c.changed(name)
	}
	if err != nil {
		return m, fmt.Errorf("%w: %w", ErrContext, err)
	}
	return m, nil
}

// same says whether one that was read is as it has to be.
func (c Context) same(name string, m member) error {
	if as, told := c.As[name]; told && as != m.digest() {
		return c.changed(name)
	}
	return nil
}

func (c Context) changed(name string) error {
	return fmt.Errorf("%w: %s %w", ErrContext, name, ErrChanged)
}

// Write writes the archive without what .dockerignore says, and returns the Dockerfile's name in it. What is wrong with the checkout is
// ErrContext.
func (c Context) Write(ctx context.Context, out io.Writer) (dockerfile string, err error) {
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
	if long := slices.IndexFunc(patterns, func(p string) bool { return len(p) > mostPattern }); long >= 0 || len(patterns) > mostPatterns {
		return "", fmt.Errorf("%w: %s has more than %d patterns, or one of more than %d bytes", ErrContext, ignoreFile, mostPatterns, mostPattern)
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
		if err := ctx.Err(); err != nil {
			return "", err
		}
		at := inside(folder, name)
		if at == "" || extra[at] != nil {
			continue
		}
		if skip, err := matcher.MatchesOrParentMatches(at); err != nil {
			return "", fmt.Errorf("%w: %s: %w", ErrContext, ignoreFile, err)
		} else if skip {
			continue
		}
		if err := w.add(c, name, at); err != nil {
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

func (w *writer) add(c Context, name, at string) error {
	m, err := c.look(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil // a step has removed it, or the folder that it was in, and may
	}
	if err != nil {
		return err
	}
	defer func() { _ = m.close() }()
	m.Name = at
	switch {
	case m.content != nil:
		if w.size += m.Size; w.size > mostContext {
			return fmt.Errorf("%w has more than %d bytes", ErrContext, int64(mostContext))
		}
		err = w.put(&m.Header, io.TeeReader(m.content, m.sum))
	case m.Typeflag == tar.TypeSymlink:
		err = w.put(&m.Header, nil)
	}
	return cmp.Or(err, c.same(name, m))
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

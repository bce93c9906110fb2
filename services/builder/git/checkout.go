package git

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
)

// Limits of one checkout: far above any Go service, far below what fills a disk.
const (
	MaxFiles = 200_000
	MaxBytes = 2 << 30
)

type entry struct {
	mode, id, name string
}

// Checkout writes the files of a commit into dir, which is made, or is empty, and tells what each file is, by path: two of the same
// text are the same, with the same rights. A tree with a path
// or a symbolic link that leads out of it is refused as a whole with ErrUnsafeTree.
//
// The blobs are read with cat-file and written here. Not with git archive, which leaves out and
// rewrites files as the tree's own .gitattributes say; not with checkout-index or worktree, which
// run filters, and follow what earlier entries made. What is built is what the commit holds, byte
// for byte. Submodules become empty folders, as in git before they are initialised.
func (r *Repository) Checkout(ctx context.Context, commit, dir string) (files map[string]string, err error) {
	entries, err := r.entries(ctx, commit)
	if err == nil {
		err = r.fill(ctx, entries, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("checkout: %w", err)
	}
	files = make(map[string]string, len(entries))
	for _, e := range entries {
		files[e.name] = e.mode + " " + e.id
	}
	return files, nil
}

// fill makes a folder with the files of a commit.
func (r *Repository) fill(ctx context.Context, entries []entry, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if there, err := os.ReadDir(dir); err != nil || len(there) > 0 {
		return errors.Join(err, fmt.Errorf("%s is not empty", dir))
	}
	root, err := os.OpenRoot(dir) // refuses to follow anything out of dir, whatever the names say
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return r.write(ctx, root, entries)
}

// entries are the files of a commit, in git's order.
func (r *Repository) entries(ctx context.Context, commit string) ([]entry, error) {
	if err := checkIDs(commit); err != nil {
		return nil, err
	}
	l := listing{known: map[string][]byte{}, left: mostPrinted}
	if err := r.ask(ctx, func(a *answers) error {
		root, err := a.tree(commit)
		if errors.Is(err, ErrNotFound) {
			return fmt.Errorf("%w: %s", ErrNotFound, commit)
		}
		if err != nil {
			return err
		}
		l.answers = a
		return l.add("", root)
	}); err != nil {
		return nil, err
	}
	return l.files, nil
}

// listing walks the trees of a commit. A few objects can stand for any number of files, and for any number of empty folders.
type listing struct {
	*answers
	known   map[string][]byte // what each tree holds, as git keeps it: parsed, all trees of a chain would take many times as much at once
	folders int
	left    int64 // bytes of trees that may still be read, and of paths that may still be listed
	files   []entry
}

// besidePath is how many bytes git prints of a file beside its path.
const besidePath = 50

// longestPath is how long a path may be, in bytes; no file system takes longer ones.
const longestPath = 4096

func (l *listing) add(folder, tree string) error {
	if l.folders++; l.folders > MaxFiles {
		return fmt.Errorf("%w: more than %d folders", ErrTooLarge, MaxFiles)
	}
	if len(folder) > longestPath {
		return fmt.Errorf("%w: path %q", ErrUnsafeTree, clip(folder))
	}
	text, known := l.known[tree]
	if !known {
		var err error
		if text, err = l.content(tree, "tree", l.left); err != nil {
			return err
		}
		l.left -= int64(len(text))
		l.known[tree] = text
	}
	for len(text) > 0 {
		var e entry
		var err error
		if e, text, err = readEntry(text, len(tree)/2); err != nil {
			return fmt.Errorf("tree %s: %w", tree, err)
		}
		if strings.Contains(e.name, "/") { // it would be another's
			return fmt.Errorf("%w: path %q", ErrUnsafeTree, clip(e.name))
		}
		// A path takes as much as git would print of it: few objects can stand for many long ones.
		e.name = folder + e.name
		if l.left -= int64(len(e.name)) + besidePath; l.left < 0 {
			return fmt.Errorf("%w: its trees and paths fill more than %d bytes", ErrTooLarge, mostPrinted)
		}
		if err := checkPath(e.name); err != nil {
			return err
		}
		if e.mode == "040000" {
			if err := l.add(e.name+"/", e.id); err != nil {
				return err
			}
			continue
		}
		if l.files = append(l.files, e); len(l.files) > MaxFiles {
			return fmt.Errorf("%w: more than %d files", ErrTooLarge, MaxFiles)
		}
	}
	return nil
}

// readEntry reads the first entry of a tree object, a mode in octal, a name, and an object name of so many bytes, and returns what follows.
func readEntry(text []byte, width int) (e entry, rest []byte, err error) {
	meta, rest, found := bytes.Cut(text, []byte{0})
	mode, name, named := strings.Cut(string(meta), " ")
	bits, err := strconv.ParseUint(mode, 8, 32)
	if !found || !named || err != nil || len(rest) < width {
		return entry{}, nil, fmt.Errorf("it holds %q", clip(string(meta)))
	}
	return entry{mode: canonical(bits), id: hex.EncodeToString(rest[:width]), name: name}, rest[width:], nil
}

// canonical is the mode that git takes a mode for.
func canonical(mode uint64) string {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		if mode&0o100 != 0 {
			return "100755"
		}
		return "100644"
	case syscall.S_IFLNK:
		return "120000"
	case syscall.S_IFDIR:
		return "040000"
	}
	return "160000"
}

func checkPath(name string) error {
	if name == "" || strings.ContainsAny(name, "\x00\\") {
		return fmt.Errorf("%w: path %q", ErrUnsafeTree, clip(name))
	}
	for _, part := range strings.Split(name, "/") {
		if part == "" || part == "." || part == ".." || strings.EqualFold(part, ".git") {
			return fmt.Errorf("%w: path %q", ErrUnsafeTree, clip(name))
		}
	}
	return nil
}

// checkLink allows a target that climbs first and then only descends: the link's own folder is a
// real one, so climbing from it is exact, and whatever link the descent meets has passed the same
// check. "down/../up" is refused, because down may be a link whose parent lies outside.
func checkLink(name, target string) error {
	bad := fmt.Errorf("%w: link %q to %q", ErrUnsafeTree, clip(name), clip(target))
	if target == "" || strings.HasPrefix(target, "/") || strings.ContainsRune(target, 0) {
		return bad
	}
	depth, descending := strings.Count(name, "/"), false
	for _, part := range strings.Split(target, "/") {
		switch {
		case part == "" || part == ".":
		case part != "..":
			descending = true
		case descending || depth == 0:
			return bad
		default:
			depth--
		}
	}
	return nil
}

// mostUnread is how many bytes of questions are asked before the first answer is read: they fit into a pipe that git does not read from
// meanwhile, also into one of a single page, as the kernel gives to who has many.
const mostUnread = 4000

func (r *Repository) write(ctx context.Context, root *os.Root, entries []entry) error {
	w := writer{repo: r, root: root, left: MaxBytes, made: ".", links: map[string]string{}}
	rest, err := w.loose(ctx, entries)
	if err == nil && len(rest) > 0 {
		err = r.ask(ctx, func(a *answers) error {
			o, err := a.git()
			if err == nil {
				err = w.all(ctx, o, rest)
				o.broken = o.broken || err != nil // what was asked for was not read
			}
			return err
		})
	}
	if err != nil {
		return err
	}
	// Links come last: while files are written there is none to follow.
	for _, name := range w.names {
		if err := root.Symlink(w.links[name], name); err != nil {
			return fmt.Errorf("%w: %w", ErrUnsafeTree, err)
		}
	}
	return nil
}

// writer puts the files of a commit into a folder.
type writer struct {
	repo  *Repository
	root  *os.Root
	left  int64  // bytes that they may still hold
	made  string // the folder that was made last
	links map[string]string
	names []string // of links, in order
}

// loose writes files whose content has a file of its own in the repository, up to the first that has none: where one is packed most are.
func (w *writer) loose(ctx context.Context, entries []entry) (rest []entry, err error) {
	for i, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var kind string
		var content []byte
		if e.mode != submodule {
			var is bool
			if kind, content, is = w.repo.loose(e.id); !is {
				return entries[i:], nil
			}
		}
		if err := w.put(e, object{e.id, kind, int64(len(content))}, bytes.NewReader(content)); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// all writes files whose content git tells.
func (w *writer) all(ctx context.Context, o *objects, entries []entry) error {
	size := func(e entry) int { return len("contents " + e.id + "\n") }
	asked, unread := 0, 0 // entries; bytes of questions
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		for ; asked < len(entries); asked++ {
			if entries[asked].mode == submodule {
				continue
			}
			if unread += size(entries[asked]); unread > mostUnread {
				unread -= size(entries[asked])
				break
			}
			if err := o.question("contents", entries[asked].id); err != nil {
				return err
			}
		}
		if e.mode == submodule {
			if err := w.put(e, object{}, nil); err != nil {
				return err
			}
			continue
		}
		head, err := o.head(e.id)
		if err != nil {
			return err
		}
		if err := w.put(e, head, io.LimitReader(o.out, head.size)); err != nil {
			return err
		}
		if err := o.endOfContent(head.size); err != nil {
			return err
		}
		unread -= size(e)
	}
	return nil
}

// put writes one file, or notes a link; a submodule has no content.
func (w *writer) put(e entry, head object, content io.Reader) error {
	if dir := path.Dir(e.name); dir != w.made {
		if err := w.root.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("%w: %w", ErrUnsafeTree, err)
		}
		w.made = dir
	}
	if e.mode == submodule {
		return w.root.MkdirAll(e.name, 0o755)
	}
	if head.kind != "blob" {
		return fmt.Errorf("%w: %q is a %s", ErrUnsafeTree, clip(e.name), head.kind)
	}
	if w.left -= head.size; w.left < 0 {
		return fmt.Errorf("%w: over %d bytes", ErrTooLarge, int64(MaxBytes))
	}
	if e.mode != "120000" {
		return writeFile(w.root, e, content, head.size)
	}
	if head.size > longestPath {
		return fmt.Errorf("%w: link %q to %d bytes", ErrUnsafeTree, clip(e.name), head.size)
	}
	target, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	if err := checkLink(e.name, string(target)); err != nil {
		return err
	}
	w.links[e.name] = string(target)
	w.names = append(w.names, e.name)
	return nil
}

const submodule = "160000"

func writeFile(root *os.Root, e entry, content io.Reader, size int64) error {
	mode := fs.FileMode(0o644)
	if e.mode == "100755" {
		mode = 0o755
	}
	// O_EXCL: two entries that mean one file (on a file system that folds case) are refused.
	f, err := root.OpenFile(e.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnsafeTree, err)
	}
	n, err := io.Copy(f, content)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	return errors.Join(err, f.Close())
}

package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
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

func (r *Repository) entries(ctx context.Context, commit string) ([]entry, error) {
	if err := checkIDs(commit); err != nil {
		return nil, err
	}
	out, err := r.git(ctx, "ls-tree", "-r", "-z", "--full-tree", commit)
	if err != nil {
		if _, missing := r.commit(ctx, commit); missing != nil {
			return nil, missing
		}
		return nil, err
	}
	lines := splitNUL(out)
	if len(lines) > MaxFiles {
		return nil, fmt.Errorf("%w: %d files", ErrTooLarge, len(lines))
	}
	entries := make([]entry, 0, len(lines))
	for _, line := range lines {
		meta, name, _ := strings.Cut(line, "\t")
		field := strings.Fields(meta)
		if len(field) != 3 {
			return nil, fmt.Errorf("git printed %q", clip(line))
		}
		if err := checkPath(name); err != nil {
			return nil, err
		}
		entries = append(entries, entry{mode: field[0], id: field[2], name: name})
	}
	return entries, nil
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

func (r *Repository) write(ctx context.Context, root *os.Root, entries []entry) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := command(ctx, r.dir, "cat-file", "--batch")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("git cat-file: %w", err)
	}
	defer func() {
		if err != nil {
			cancel()
		}
		_ = in.Close()
		if end := verdict(ctx, "cat-file", cmd.Wait(), complaint.String()); err == nil {
			err = end
		}
	}()

	blobs := bufio.NewReaderSize(out, 1<<16)
	links := map[string]string{}
	var names []string // of links, in order
	left := int64(MaxBytes)
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if dir := path.Dir(e.name); dir != "." {
			if err := root.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("%w: %w", ErrUnsafeTree, err)
			}
		}
		if e.mode == "160000" {
			if err := root.MkdirAll(e.name, 0o755); err != nil {
				return err
			}
			continue
		}
		size, err := ask(in, blobs, e.id)
		if err != nil {
			return err
		}
		if left -= size; left < 0 {
			return fmt.Errorf("%w: over %d bytes", ErrTooLarge, int64(MaxBytes))
		}
		content := io.LimitReader(blobs, size)
		if e.mode == "120000" {
			target, err := io.ReadAll(content)
			if err != nil {
				return err
			}
			if err := checkLink(e.name, string(target)); err != nil {
				return err
			}
			links[e.name] = string(target)
			names = append(names, e.name)
		} else if err := writeFile(root, e, content, size); err != nil {
			return err
		}
		if _, err := blobs.Discard(1); err != nil { // the line feed after a blob
			return fmt.Errorf("git cat-file: %w", err)
		}
	}
	// Links come last: while files are written there is none to follow.
	for _, name := range names {
		if err := root.Symlink(links[name], name); err != nil {
			return fmt.Errorf("%w: %w", ErrUnsafeTree, err)
		}
	}
	return nil
}

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

// ask requests one blob and returns its size; its bytes and one line feed follow in blobs.
func ask(in io.Writer, blobs *bufio.Reader, id string) (int64, error) {
	if _, err := io.WriteString(in, id+"\n"); err != nil {
		return 0, fmt.Errorf("git cat-file: %w", err)
	}
	head, err := blobs.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("git cat-file: %w", err)
	}
	field := strings.Fields(head)
	if len(field) != 3 || field[1] != "blob" {
		return 0, fmt.Errorf("git cat-file: %q", clip(head))
	}
	return strconv.ParseInt(field[2], 10, 64)
}

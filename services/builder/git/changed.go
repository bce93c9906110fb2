package git

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Lines are lines of a file, from 1, both ends included.
type Lines struct{ From, To int }

// ChangedLines are the lines of to's files, by path, that from does not have: added and rewritten ones. Files of which lines were
// only taken away have none; binary ones are left out.
func (r *Repository) ChangedLines(ctx context.Context, from, to string) (map[string][]Lines, error) {
	if err := checkIDs(from, to); err != nil {
		return nil, fmt.Errorf("changed lines: %w", err)
	}
	out, err := r.git(ctx, "diff-tree", "-r", "-p", "--unified=0", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames",
		"--src-prefix=a/", "--dst-prefix=b/", from, to)
	if err != nil {
		return nil, fmt.Errorf("changed lines: %w", err)
	}
	changed, err := readPatch(out)
	if err != nil {
		return nil, fmt.Errorf("changed lines: %w", err)
	}
	return changed, nil
}

// readPatch reads the places of hunks. How many lines a hunk has is counted down, so that a line which looks like a header
// is not taken for one.
func readPatch(patch string) (map[string][]Lines, error) {
	changed, file, left := map[string][]Lines{}, "", 0
	for line := range strings.Lines(patch) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case left > 0 && line != "" && (line[0] == '+' || line[0] == '-'):
			left--
		case strings.HasPrefix(line, "+++ "):
			name := strings.TrimSuffix(line[len("+++ "):], "\t") // git ends a name that has spaces so
			if strings.HasPrefix(name, `"`) {
				unquoted, err := strconv.Unquote(name)
				if err != nil {
					return nil, fmt.Errorf("git printed the file %s", name)
				}
				name = unquoted
			}
			file = strings.TrimPrefix(name, "b/")
		case strings.HasPrefix(line, "@@ "):
			removed, added, err := hunk(line)
			if err != nil {
				return nil, err
			}
			if left = removed.n + added.n; added.n > 0 {
				changed[file] = append(changed[file], Lines{From: added.at, To: added.at + added.n - 1})
			}
		}
	}
	return changed, nil
}

// place is the half of a hunk's header.
type place struct{ at, n int }

// hunk reads `@@ -12,3 +14,2 @@`; a count of 1 is left out.
func hunk(line string) (removed, added place, err error) {
	fields := strings.Fields(line)
	if len(fields) < 4 || !strings.HasPrefix(fields[1], "-") || !strings.HasPrefix(fields[2], "+") {
		return place{}, place{}, fmt.Errorf("git printed the hunk %q", clip(line))
	}
	read := func(half string) (p place) {
		at, n, counted := strings.Cut(half[1:], ",")
		p.n = 1
		var errAt, errN error
		if p.at, errAt = strconv.Atoi(at); counted {
			p.n, errN = strconv.Atoi(n)
		}
		if errAt != nil || errN != nil {
			err = fmt.Errorf("git printed the hunk %q", clip(line))
		}
		return p
	}
	return read(fields[1]), read(fields[2]), err
}

// Files lists the paths of a commit's files.
func (r *Repository) Files(ctx context.Context, commit string) ([]string, error) {
	if err := checkIDs(commit); err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	out, err := r.git(ctx, "ls-tree", "-r", "-z", "--name-only", commit)
	if err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	return splitNUL(out), nil
}

package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Repository is one bare repository: the origin itself, or a mirror of an origin elsewhere. Its
// methods may be called from several goroutines.
type Repository struct {
	dir    string
	origin string // empty: dir is the origin
	near   string // see nearby

	fetching sync.Mutex // two fetches at once would fail on each other's ref locks
	fetches  int

	asking sync.Mutex // of secret
	secret Secret
}

// Open opens a repository. With a url (anything git can clone: a path, file, https, ssh), dir is
// where the bare mirror lives; it is made when it is not there, or not all of it is, and fetched. Without a url, dir is
// a local bare repository and the origin itself.
func Open(ctx context.Context, dir, url string) (*Repository, error) {
	return OpenWith(ctx, dir, url, nil)
}

// OpenWith is Open of an origin that asks for a secret.
func OpenWith(ctx context.Context, dir, url string, secret Secret) (*Repository, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	r := &Repository{dir: dir, origin: url, near: nearby(url), secret: secret}
	if url == "" {
		bare, err := r.git(ctx, "rev-parse", "--is-bare-repository")
		if err != nil {
			return nil, fmt.Errorf("open repository: %w", err)
		}
		if strings.TrimSpace(bare) != "true" {
			return nil, fmt.Errorf("open repository: %s is not bare", dir)
		}
		return r, nil
	}
	if err := checkURL(url); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	if !isRepository(dir) {
		if err := makeMirror(ctx, dir); err != nil {
			return nil, fmt.Errorf("open repository: %w", err)
		}
	}
	if err := r.Fetch(ctx); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	return r, nil
}

// isRepository tells as git does: one that was killed while it made a repository has not made all of it.
func isRepository(dir string) bool { return holds(dir, "HEAD", "objects", "refs") }

// holds says whether folders, and files in which there is something, are there.
func holds(dir string, parts ...string) bool {
	for _, part := range parts {
		info, err := os.Stat(filepath.Join(dir, part))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() && info.Size() == 0 {
			return false
		}
	}
	return true
}

// made is what git makes of a repository first: a folder that holds anything else is not half made, but somebody else's.
var made = []string{"HEAD", "HEAD.lock", "config", "config.lock", "objects", "refs", "branches", "hooks", "info", "description"}

// makeMirror makes an empty mirror, whole or not at all, also in the place of one that was left half made. Where a machine went down
// before the disk had HEAD, what is there stays.
func makeMirror(ctx context.Context, dir string) error {
	if holds(dir, "config", "objects", "refs") {
		head := filepath.Join(dir, "HEAD")
		if err := os.WriteFile(head+".lock", []byte("ref: refs/heads/main\n"), 0o600); err != nil {
			return err
		}
		return os.Rename(head+".lock", head)
	}
	half, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range half {
		if !slices.Contains(made, entry.Name()) {
			return fmt.Errorf("%s is no repository, and holds %s: no mirror is made there", dir, entry.Name())
		}
	}
	part := dir + ".part" // perhaps of a process that was killed
	for _, old := range []string{part, dir} {
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(part, 0o700); err != nil {
		return err
	}
	if _, err := run(ctx, "", nil, nil, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", part); err != nil {
		return err
	}
	return os.Rename(part, dir)
}

// tidyEvery is how many fetches there are to one that has git tidy the mirror, where that has grown untidy.
const tidyEvery = 50

// Fetch brings the mirror's branches and tags to where they stand at the origin; refs names
// further full refs to bring (refs/pull/7/head). Without an origin there is nothing to do.
func (r *Repository) Fetch(ctx context.Context, refs ...string) error {
	if r.origin == "" {
		return nil
	}
	specs := []string{"+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"}
	for _, ref := range refs {
		if err := checkRef(ref); err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
		if !strings.HasPrefix(ref, "refs/") {
			return fmt.Errorf("fetch: %w: %q is no full ref", ErrBadName, ref)
		}
		specs = append(specs, "+"+ref+":"+ref)
	}
	r.fetching.Lock()
	defer r.fetching.Unlock()
	args := []string{"fetch", "--quiet", "--prune", "--no-tags"}
	if r.fetches++; r.fetches%tidyEvery != 1 {
		args = append(args, "--no-auto-maintenance") // or each looks whether there is something to tidy
	}
	args = append(append(args, "--end-of-options", r.origin), specs...)
	// Without what is nearby: the mirror is to have all itself, and tidying it takes nothing from it.
	_, err := r.remote(func(env []string) (string, error) { return run(ctx, r.dir, nil, env, args...) })
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	return nil
}

// Refresh has all that is asked from now on be as it stands at the origin: by a fetch, unless that is nearby and read where it is.
func (r *Repository) Refresh(ctx context.Context) error {
	if r.near != "" && nearby(r.origin) != "" {
		return nil
	}
	return r.Fetch(ctx)
}

// Head returns the commit at which the branch stands at the origin now.
func (r *Repository) Head(ctx context.Context, branch string) (string, error) {
	if err := CheckBranch(branch); err != nil {
		return "", fmt.Errorf("head: %w", err)
	}
	if err := r.Refresh(ctx); err != nil {
		return "", fmt.Errorf("head: %w", err)
	}
	return r.commit(ctx, "refs/heads/"+branch)
}

// Resolve returns the commit that rev means in the repository as last fetched, or as it stands when the origin is nearby: a full object
// name, a full ref (refs/…), a branch, or else a tag. Revision expressions are refused.
func (r *Repository) Resolve(ctx context.Context, rev string) (string, error) {
	if isID(rev) {
		return r.commit(ctx, rev)
	}
	if err := checkRef(rev); err != nil {
		return "", fmt.Errorf("resolve: %w", err)
	}
	if strings.HasPrefix(rev, "refs/") {
		return r.commit(ctx, rev)
	}
	id, err := r.commit(ctx, "refs/heads/"+rev)
	if errors.Is(err, ErrNotFound) {
		id, err = r.commit(ctx, "refs/tags/"+rev)
	}
	return id, err
}

// At is the commit at which a full ref stands at the origin now, also one beside branches and tags; ErrNotFound when the origin has none.
func (r *Repository) At(ctx context.Context, ref string) (string, error) {
	err := checkRef(ref)
	if err == nil && !strings.HasPrefix(ref, "refs/") {
		err = fmt.Errorf("%w: %q is no full ref", ErrBadName, clip(ref))
	}
	if err != nil {
		return "", fmt.Errorf("at: %w", err)
	}
	if r.near != "" {
		id, err := refAt(r.near, ref)
		there := nearby(r.origin) != ""
		if there && errors.Is(err, ErrNotFound) {
			return "", fmt.Errorf("%w: %s", ErrNotFound, ref)
		}
		if there && err == nil {
			if id, err = r.commitHere(ctx, id); !errors.Is(err, ErrNotFound) {
				return id, err
			}
		}
	}
	var f *failure
	if err := r.Fetch(ctx, ref); errors.As(err, &f) && strings.Contains(f.stderr, "couldn't find remote ref "+ref) {
		return "", fmt.Errorf("%w: %s", ErrNotFound, ref)
	} else if err != nil {
		return "", err
	}
	return r.commitHere(ctx, ref)
}

func (r *Repository) commit(ctx context.Context, rev string) (string, error) {
	if r.near == "" || !strings.HasPrefix(rev, "refs/") {
		return r.commitHere(ctx, rev)
	}
	id, err := refAt(r.near, rev)
	there := nearby(r.origin) != "" // looked at after it: what is gone as a whole has no branch either
	if there && errors.Is(err, ErrNotFound) {
		return "", fmt.Errorf("%w: %s", ErrNotFound, rev)
	}
	if there && err == nil {
		if id, err = r.commitHere(ctx, id); !errors.Is(err, ErrNotFound) {
			return id, err
		}
	}
	if err := r.Fetch(ctx); err != nil { // git knows what it is, or says what is wrong
		return "", err
	}
	return r.commitHere(ctx, rev)
}

// commitHere is the commit that a name means in the repository itself.
func (r *Repository) commitHere(ctx context.Context, rev string) (id string, err error) {
	err = r.ask(ctx, func(a *answers) error {
		id, err = a.commit(rev)
		return err
	})
	return id, err
}

// Contains says whether commit is in the branch's history at the origin. After a crash it answers
// whether an Advance had happened before others went on.
func (r *Repository) Contains(ctx context.Context, branch, commit string) (bool, error) {
	if err := checkIDs(commit); err != nil {
		return false, fmt.Errorf("contains: %w", err)
	}
	head, err := r.Head(ctx, branch)
	if err != nil {
		return false, err
	}
	return r.ancestor(ctx, commit, head)
}

// Ancestor says whether one commit is in the history of another, as far as the repository was fetched.
func (r *Repository) Ancestor(ctx context.Context, old, young string) (bool, error) {
	if err := checkIDs(old, young); err != nil {
		return false, fmt.Errorf("ancestor: %w", err)
	}
	return r.ancestor(ctx, old, young)
}

func (r *Repository) ancestor(ctx context.Context, old, young string) (bool, error) {
	if _, ahead := r.ahead(ctx, old, young); ahead {
		return true, nil
	}
	_, err := r.git(ctx, "merge-base", "--is-ancestor", old, young)
	if status(err) == 1 {
		return false, nil
	}
	return err == nil, err
}

// Changed lists the paths that differ between the trees of two commits, sorted as git sorts them.
// A renamed file is listed under both names.
func (r *Repository) Changed(ctx context.Context, a, b string) ([]string, error) {
	if err := checkIDs(a, b); err != nil {
		return nil, fmt.Errorf("changed: %w", err)
	}
	out, err := r.git(ctx, "diff-tree", "-r", "-z", "--name-only", "--no-renames", a, b)
	if err != nil {
		return nil, fmt.Errorf("changed: %w", err)
	}
	return splitNUL(out), nil
}

// Trees names what commits hold, in their order: two of the same name hold the same files.
func (r *Repository) Trees(ctx context.Context, commits ...string) (trees []string, err error) {
	if err = checkIDs(commits...); err == nil {
		err = r.ask(ctx, func(a *answers) error {
			for _, id := range commits {
				tree, err := a.tree(id)
				if err != nil {
					return err
				}
				trees = append(trees, tree)
			}
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("trees: %w", err)
	}
	return trees, nil
}

func splitNUL(s string) []string {
	s = strings.TrimSuffix(s, "\x00")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\x00")
}

// Identity is who made a commit.
type Identity struct {
	Name  string
	Email string
}

// Commit is one entry of a log.
type Commit struct {
	ID        string
	Parents   []string
	Author    Identity
	Authored  time.Time // UTC, whole seconds
	Committer Identity
	Committed time.Time // UTC, whole seconds
	Message   string
}

// Log lists the commits of head that base does not have, youngest first, at most limit of them
// (0: all). An empty base means the whole history.
func (r *Repository) Log(ctx context.Context, base, head string, limit int) ([]Commit, error) {
	span := []string{head}
	if base != "" {
		span = append(span, "^"+base)
		if err := checkIDs(base); err != nil {
			return nil, fmt.Errorf("log: %w", err)
		}
	}
	if err := checkIDs(head); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	args := []string{"--topo-order"}
	if limit > 0 {
		args = append(args, "--max-count="+strconv.Itoa(limit))
	}
	return r.log(ctx, append(args, span...)...)
}

// Commits are single commits, in the order that they are asked for, one as often as it is asked for; ErrNotFound when one is not there.
func (r *Repository) Commits(ctx context.Context, ids ...string) (commits []Commit, err error) {
	if err := checkIDs(ids...); err != nil {
		return nil, fmt.Errorf("commits: %w", err)
	}
	ordinary := true
	var found []string
	err = r.ask(ctx, func(a *answers) error {
		for _, id := range ids {
			at, err := a.commit(id)
			if err != nil {
				return err
			}
			text, err := a.content(at, "commit", mostCommit)
			if err != nil {
				return err
			}
			found = append(found, at)
			c, is := readCommit(at, text)
			ordinary = ordinary && is
			commits = append(commits, c)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("commits: %w", err)
	}
	if ordinary {
		return commits, nil
	}
	all, err := r.log(ctx, append([]string{"--no-walk=unsorted"}, found...)...)
	if err != nil {
		return nil, err
	}
	logged := map[string]Commit{} // git tells one once, however often it is asked
	for _, c := range all {
		logged[c.ID] = c
	}
	for i, id := range found {
		c, there := logged[id]
		if !there {
			return nil, fmt.Errorf("commits: git did not log %s", id)
		}
		commits[i] = c
	}
	return commits, nil
}

// mostCommit is how much a commit may hold, in bytes.
const mostCommit = 16 << 20

func (r *Repository) log(ctx context.Context, args ...string) ([]Commit, error) {
	all := []string{"log", "-z", "--no-show-signature", "--format=%H%n%P%n%an%n%ae%n%at%n%cn%n%ce%n%ct%n%B"}
	out, err := r.git(ctx, append(all, args...)...)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	var commits []Commit
	for _, entry := range splitNUL(out) {
		field := strings.SplitN(entry, "\n", 9)
		if len(field) < 9 {
			return nil, fmt.Errorf("log: entry of %d fields", len(field))
		}
		commits = append(commits, Commit{
			ID:        field[0],
			Parents:   strings.Fields(field[1]),
			Author:    Identity{Name: field[2], Email: field[3]},
			Authored:  seconds(field[4]),
			Committer: Identity{Name: field[5], Email: field[6]},
			Committed: seconds(field[7]),
			Message:   strings.TrimRight(field[8], "\n"),
		})
	}
	return commits, nil
}

// latest is what times of commits are taken for that are later: no other can be written as RFC 3339 says, and git allows them.
var latest = time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)

func seconds(s string) time.Time {
	n, _ := strconv.ParseInt(s, 10, 64) // git prints a number; a broken date in a commit prints 0
	return time.Unix(min(n, latest.Unix()), 0).UTC()
}

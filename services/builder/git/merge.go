package git

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// MergeTree merges head into base without a work tree and returns the merged tree. Where the two
// cannot be merged it returns no tree and the paths in conflict, which is no error.
func (r *Repository) MergeTree(ctx context.Context, base, head string) (tree string, conflicts []string, err error) {
	if err := checkIDs(base, head); err != nil {
		return "", nil, fmt.Errorf("merge: %w", err)
	}
	if tree, ahead := r.ahead(ctx, base, head); ahead {
		return tree, nil, nil
	}
	out, err := r.git(ctx, "merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", base, head)
	fields := splitNUL(out)
	switch {
	case err == nil && len(fields) > 0 && isID(fields[0]):
		return fields[0], nil, nil
	case status(err) == 1 && len(fields) > 1:
		return "", fields[1:], nil
	case err == nil:
		return "", nil, fmt.Errorf("merge: git printed %q", clip(out))
	}
	return "", nil, fmt.Errorf("merge: %w", err)
}

// mostAhead is how many commits are looked at to find out that nothing has to be merged.
const mostAhead = 32

// ahead says whether head is a few commits upon base: then all that the merge holds is head's tree.
func (r *Repository) ahead(ctx context.Context, base, head string) (tree string, is bool) {
	_ = r.ask(ctx, func(a *answers) (err error) { // whatever is wrong, the merge will say
		seen := map[string]bool{head: true}
		for next := []string{head}; len(next) > 0 && len(seen) <= mostAhead; next = next[1:] {
			if is = next[0] == base; is {
				tree, err = a.tree(head)
				is = err == nil
				return err
			}
			text, err := a.content(next[0], "commit", mostCommit)
			if err != nil {
				return err
			}
			c, ordinary := readCommit(next[0], text)
			if !ordinary {
				return nil
			}
			for _, parent := range c.Parents {
				if !seen[parent] {
					seen[parent] = true
					next = append(next, parent)
				}
			}
		}
		return nil
	})
	return tree, is
}

// Merge is a merge commit to be made.
type Merge struct {
	Tree      string // of MergeTree
	Base      string // first parent: the commit of the branch that is merged into
	Head      string // second parent: the change
	Message   string
	Author    Identity
	Committer Identity
	Time      time.Time // of both, in whole seconds
}

// CommitMerge writes the merge commit and returns its name. The same Merge gives the same commit,
// so that work done twice after a crash is the same work. No branch moves.
func (r *Repository) CommitMerge(ctx context.Context, m Merge) (string, error) {
	if err := checkIDs(m.Tree, m.Base, m.Head); err != nil {
		return "", fmt.Errorf("commit merge: %w", err)
	}
	env := r.env()
	for role, who := range map[string]Identity{"AUTHOR": m.Author, "COMMITTER": m.Committer} {
		if who.Name == "" || who.Email == "" || strings.ContainsAny(who.Name+who.Email, "<>\n\x00") {
			return "", fmt.Errorf("commit merge: %w: identity %q <%s>", ErrBadName, who.Name, who.Email)
		}
		env = append(env,
			"GIT_"+role+"_NAME="+who.Name,
			"GIT_"+role+"_EMAIL="+who.Email,
			fmt.Sprintf("GIT_%s_DATE=%d +0000", role, m.Time.Unix()))
	}
	if text, plain := m.render(); plain && r.origin != "" { // a repository of others may be kept in another way
		id, err := r.put("commit", text, len(m.Tree)/2)
		if err != nil {
			return "", fmt.Errorf("commit merge: %w", err)
		}
		return id, nil
	}
	out, err := run(ctx, r.dir, strings.NewReader(m.Message), env,
		"commit-tree", "-p", m.Base, "-p", m.Head, "-F", "-", m.Tree)
	if err != nil {
		return "", fmt.Errorf("commit merge: %w", err)
	}
	return strings.TrimSpace(out), nil
}

// Advance moves the branch at the origin from one commit to another, and only from there: ErrMoved when it
// stands elsewhere, ErrNotForward when to does not contain from, ErrRefused when the origin says no to it. A branch that already stands at
// to is no error, so that an Advance may be repeated.
func (r *Repository) Advance(ctx context.Context, branch, from, to string) error {
	if err := errors.Join(CheckBranch(branch), checkIDs(from, to)); err != nil {
		return fmt.Errorf("advance: %w", err)
	}
	forward, err := r.ancestor(ctx, from, to)
	if err != nil {
		return fmt.Errorf("advance: %w", err)
	}
	if !forward {
		return fmt.Errorf("advance %s: %w: %s to %s", branch, ErrNotForward, from, to)
	}
	ref := "refs/heads/" + branch
	var said string
	if r.origin == "" {
		_, err = r.git(ctx, "update-ref", "-m", "lemnis: advance", ref, to, from)
	} else {
		// The lease is checked here against what the origin says; the origin checks it again
		// under its own lock.
		said, err = r.remote(func(env []string) (string, error) {
			return run(ctx, r.dir, nil, append(r.env(), env...), "push", "--quiet", "--porcelain", "--no-verify",
				"--force-with-lease="+ref+":"+from, "--end-of-options", r.origin, to+":"+ref)
		})
	}
	if ctx.Err() != nil {
		return fmt.Errorf("advance %s: %w", branch, ctx.Err())
	}
	if err == nil {
		if r.origin != "" {
			// The mirror follows; when it cannot now, the next Head brings it.
			_ = r.Fetch(ctx)
		}
		return nil
	}
	// Whatever git complained of, what counts is where the branch stands.
	head, headErr := r.Head(ctx, branch)
	switch {
	case headErr == nil && head == to:
		return nil
	case headErr == nil && head != from, errors.Is(headErr, ErrNotFound):
		return fmt.Errorf("advance %s: %w: expected %s, stands at %q", branch, ErrMoved, from, head)
	case headErr == nil:
		if why := refusal(said, err); why != "" {
			return fmt.Errorf("advance %s: %w: %s", branch, ErrRefused, why)
		}
	}
	return fmt.Errorf("advance %s: %w", branch, err)
}

// passing are the words of servers and their hooks for what another time may not hold: somebody else was writing, its disk is full, or a part
// of it is away. A change that is tried again in vain costs some minutes; one that is thrown out for an outage has to be queued again by hand.
var passing = []string{
	"unpacker error", "failed to update ref", "cannot lock", "incorrect old value", "internal error", "internal server error", "internal api", "fetch first", "stale info",
	"timed out", "timeout", "unable to contact", "connection refused", "connection reset", "unreachable", "try again", "temporarily", "service unavailable", "bad gateway",
	"maintenance mode", "read-only mode", "read-only gitlab instance", "rate limit",
}

// refusal is why an origin that can be read did not take a push, where it would not take it another time either; else empty. Said is
// what git push --porcelain printed.
func refusal(said string, err error) string {
	var f *failure
	if !errors.As(err, &f) {
		return ""
	}
	why := ""
	for line := range strings.Lines(said) {
		if _, reason, is := strings.Cut(line, "[remote rejected]"); is && strings.HasPrefix(line, "!") {
			why = strings.Trim(strings.TrimSpace(reason), "()")
		}
	}
	var told []string // by the server and its hooks
	for line := range strings.Lines(f.stderr) {
		line = strings.TrimSpace(line)
		text, remote := strings.CutPrefix(line, "remote:")
		forbidden := strings.HasPrefix(line, "fatal:") && strings.HasSuffix(line, "error: 403") || strings.HasPrefix(line, "ERROR:")
		if text = strings.TrimSpace(text); text != "" && (remote || forbidden) {
			told = append(told, text)
		}
		if why == "" && forbidden { // who may read need not be allowed to write
			why = "it may not be pushed to"
		}
	}
	all := strings.ToLower(why + "\n" + strings.Join(told, "\n"))
	if slices.ContainsFunc(passing, func(text string) bool { return strings.Contains(all, text) }) {
		return ""
	}
	if why != "" && len(told) > 0 {
		why += ": " + strings.Join(told, "; ")
	}
	return why
}

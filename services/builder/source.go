package builder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/secret"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/git"
)

// patience is how many attempts a fault of the machinery (an unreachable host, a full disk) is
// given before it becomes the outcome; with the runtime's backoff, some minutes.
const patience = 20

// spent is the fault of work that was begun often and never came to an end: it ends whoever does it.
func spent(job *service.Job) error {
	if job.Tries <= patience {
		return nil
	}
	return errors.New("no builder that began it lived to tell how it ended")
}

// finding is what is wrong with a change or a repository: an outcome, not a fault.
type finding struct {
	reason    string
	conflicts []string
	change    string // of a train, which it is about; empty: not known
}

func (f *finding) Error() string { return f.reason }

func found(format string, args ...any) error { return &finding{reason: fmt.Sprintf(format, args...)} }

// outcome tells a finding from a fault. A fault is worth another attempt, until there were many.
func outcome(ctx context.Context, job *service.Job, err error) (f *finding, result string, again error) {
	switch {
	case errors.As(err, &f):
		return f, events.Failure, nil
	case ctx.Err() != nil || job.Tries < patience:
		return nil, "", err
	}
	return &finding{reason: fmt.Sprintf("given up after %d attempts: %v", job.Tries, err)}, events.Errored, nil
}

// source opens the repository of a merge as it stands at its origin, and the commit of its master copy.
func (b *builder) source(ctx context.Context, p events.Project, m events.MergeDetail) (repo *git.Repository, master string, err error) {
	ref, known := p.Repository(m.Repository)
	if !known {
		return nil, "", found("repository %q is not one of the project's", m.Repository)
	}
	var asked git.Secret
	if name := strings.TrimPrefix(ref.Credentials, "secret:"); name != "" {
		asked = func() (string, error) { return secret.Read(b.options.SecretsDir, p.Name, name) }
	}
	repo, err = b.workshop.open(ctx, p.Name, ref.URL, asked)
	if errors.Is(err, git.ErrBadName) || errors.Is(err, git.ErrNoSecret) {
		return nil, "", found("repository %q: %v", m.Repository, err)
	}
	if err != nil {
		return nil, "", fmt.Errorf("repository %q: %w", m.Repository, err)
	}
	if master, err = tip(ctx, repo, m.Base); errors.Is(err, git.ErrNotFound) {
		return nil, "", found("repository %q has no branch %q", m.Repository, m.Base)
	}
	return repo, master, err
}

// tip is where a branch stands, as last fetched.
func tip(ctx context.Context, repo *git.Repository, name string) (string, error) {
	if err := git.CheckBranch(name); err != nil {
		return "", found("%v", err)
	}
	return repo.Resolve(ctx, "refs/heads/"+name)
}

// commitOf is one commit as git logs it; git.ErrNotFound when it is not there.
func commitOf(ctx context.Context, repo *git.Repository, id string) (git.Commit, error) {
	found, err := repo.Commits(ctx, id)
	if err != nil {
		return git.Commit{}, err
	}
	if len(found) != 1 {
		return git.Commit{}, fmt.Errorf("%w: %s", git.ErrNotFound, id)
	}
	return found[0], nil
}

// builderIdentity commits merges.
var builderIdentity = git.Identity{Name: "Lemnis", Email: "builder@lemnis.invalid"}

// merged is a merge commit that was made.
type merged struct {
	commit    string
	committed time.Time // the change
	nothing   bool      // it holds what it was made upon
}

// mergeCommit makes the merge commit of head on onto; no branch moves. Everything in it comes from
// the two commits and the change, so that any worker makes the same one at any time.
func mergeCommit(ctx context.Context, repo *git.Repository, m events.MergeDetail) (merged, error) {
	if m.Head == m.Onto {
		return merged{}, found("head %s is part of %s already: there is nothing to merge", m.Head, m.Base)
	}
	both, err := repo.Commits(ctx, m.Head, m.Onto)
	if err != nil {
		return merged{}, err
	}
	if len(both) != 2 {
		return merged{}, fmt.Errorf("git logged %d commits of %s and %s", len(both), m.Head, m.Onto)
	}
	tree, conflicts, err := repo.MergeTree(ctx, m.Onto, m.Head)
	if err != nil {
		return merged{}, err
	}
	head, base := both[0], both[1]
	if len(conflicts) > 0 {
		return merged{}, &finding{conflicts: conflicts,
			reason: fmt.Sprintf("the change conflicts with %s in %s", m.Base, strings.Join(conflicts, ", "))}
	}
	at := head.Committed
	if base.Committed.After(at) {
		at = base.Committed
	}
	author := head.Author
	if author.Name == "" || author.Email == "" || strings.ContainsAny(author.Name+author.Email, "<>\n\x00") {
		author = builderIdentity
	}
	before, err := repo.Trees(ctx, m.Onto)
	if err != nil {
		return merged{}, err
	}
	commit, err := repo.CommitMerge(ctx, git.Merge{
		Tree: tree, Base: m.Onto, Head: m.Head, Message: message(m), Author: author, Committer: builderIdentity, Time: at,
	})
	return merged{commit: commit, committed: head.Committed, nothing: tree == before[0]}, err
}

func message(m events.MergeDetail) string {
	line := func(s string) string { return strings.Join(strings.Fields(s), " ") } // a trailer is one line
	text := "Merge change " + line(m.Change)
	if m.Title != "" {
		text += ": " + line(m.Title)
	}
	text += "\n\nChange: " + line(m.Change) + "\n"
	if m.Item != "" {
		text += "Item: " + line(m.Item) + "\n"
	}
	return text
}

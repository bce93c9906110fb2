package builder

import (
	"context"
	"errors"
	"fmt"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/git"
)

// A change from a fork is on no branch of the repository, which offers it under a ref of its own. Whoever wrote it may be a stranger: its
// steps get no secrets, and nothing that its run leaves is taken for the master copy's.

// offered is where a change stands at the repository's host now, and what it is called there; git.ErrNotFound when it is gone.
func offered(ctx context.Context, repo *git.Repository, m events.MergeDetail) (at, name string, err error) {
	if m.Ref == "" {
		at, err = tip(ctx, repo, m.Branch)
		return at, fmt.Sprintf("branch %q", m.Branch), err
	}
	if !events.IsPullRef(m.Ref) {
		return "", "", found("ref %.100q is none under which a forge offers changes: refs/pull/N/head or refs/merge-requests/N/head", m.Ref)
	}
	at, err = repo.At(ctx, m.Ref)
	return at, fmt.Sprintf("ref %q", m.Ref), err
}

// bring has the commits of a change from a fork be here, as far as its ref is still there.
func bring(ctx context.Context, repo *git.Repository, m events.MergeDetail) error {
	if m.Ref == "" {
		return nil
	}
	_, _, err := offered(ctx, repo, m)
	if errors.Is(err, git.ErrNotFound) {
		return nil
	}
	return err
}

// reviewed makes sure that the head that was reviewed is still what the change offers.
func reviewed(ctx context.Context, repo *git.Repository, m events.MergeDetail) error {
	at, name, err := offered(ctx, repo, m)
	switch {
	case errors.Is(err, git.ErrNotFound):
		return found("the change's %s is gone", name)
	case err != nil:
		return err
	case at == m.Head:
		return nil
	}
	switch _, err := repo.Resolve(ctx, m.Head); {
	case errors.Is(err, git.ErrNotFound):
		return found("the repository has no commit %s", m.Head)
	case err != nil:
		return err
	}
	var there bool
	if m.Ref == "" {
		there, err = repo.Contains(ctx, m.Branch, m.Head)
	} else {
		there, err = repo.Ancestor(ctx, m.Head, at)
	}
	if err == nil && !there {
		return found("%s was rewritten: the reviewed head %s is not in it any more", name, m.Head)
	}
	return err
}

// secretsFor reads the secrets of the steps that test a merge.
func (b *builder) secretsFor(p events.Project, m events.MergeDetail) func(name string) (string, error) {
	if m.Ref == "" {
		return b.secretOf(p)
	}
	return func(name string) (string, error) {
		return "", fmt.Errorf("secret:%.100s is not given: secrets of steps are not given to changes from forks, and %s is one or is tested with one", name, m.Ref)
	}
}

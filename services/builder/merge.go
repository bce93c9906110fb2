package builder

import (
	"context"
	"errors"
	"fmt"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/git"
)

// merge makes the tested commit the master copy: from the very commit on which it was tested, or
// not at all.
func (b *builder) merge(ctx context.Context, job *service.Job) error {
	tested, ok := job.Event.Content.(events.QueueTested)
	if !ok {
		return events.Reject(fmt.Errorf("%T asks for no merge", job.Event.Content))
	}
	m := tested.Merge
	report := func(content any) error { return job.Report(ctx, service.Report{Content: content}) }
	err := b.advance(ctx, job, m)
	switch {
	case err == nil:
		return report(events.ChangeMerged{Repository: &events.Reference{ID: m.Repository}, Lemnis: m})
	case errors.Is(err, errOver):
		return nil
	case errors.Is(err, git.ErrMoved):
		return report(events.QueueEntered{Merge: m, Reason: fmt.Sprintf("%s has moved from %s while the change was tested on it: once more", m.Base, m.Onto)})
	}
	f, _, again := outcome(ctx, job, err)
	if again != nil {
		return again
	}
	return report(events.QueueEjected{Merge: m, Reason: f.reason, Conflicts: f.conflicts})
}

// errOver says that the change left the queue before it was merged.
var errOver = errors.New("the change has left the queue")

func (b *builder) advance(ctx context.Context, job *service.Job, m events.MergeDetail) error {
	repo, master, err := b.source(ctx, job.Project, m)
	if err != nil {
		return err
	}
	_, err = repo.Resolve(ctx, m.Commit)
	missing := errors.Is(err, git.ErrNotFound)
	if err != nil && !missing {
		return err
	}
	if !missing {
		// Merged before a crash, perhaps with others on top of it by now.
		if there, err := repo.Contains(ctx, m.Base, m.Commit); err != nil || there {
			return err
		}
	}
	switch {
	case b.queue.over(job.Project.Name, m):
		return errOver
	case master != m.Onto:
		return git.ErrMoved
	}
	// The branch may have been rewritten or deleted while its head was tested.
	if err := reviewed(ctx, repo, m); err != nil {
		return err
	}
	if missing {
		// Another worker tested it; the same commit is made here.
		commit, _, err := mergeCommit(ctx, repo, m)
		if errors.Is(err, git.ErrNotFound) {
			return found("the repository has no commit %s any more", m.Head)
		}
		if err != nil {
			return err
		}
		if commit != m.Commit {
			// This host's git merges to something else than what was tested: it has to be tested again.
			return fmt.Errorf("%w: the tested commit is %s and is made as %s here", git.ErrMoved, m.Commit, commit)
		}
	}
	return repo.Advance(ctx, m.Base, m.Onto, m.Commit)
}

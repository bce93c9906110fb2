package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
	if tested.Waits {
		return nil // for its turn, which the repository's queue plans
	}
	m := tested.Merge
	report := func(content any) error { return job.Report(ctx, service.Report{Content: content}) }
	err := b.advance(ctx, job, []events.MergeDetail{m})
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

// advance moves the master copy to what a train was tested as. That the origin refuses a change is a finding, that it refuses several
// together git.ErrRefused.
func (b *builder) advance(ctx context.Context, job *service.Job, train []events.MergeDetail) error {
	m := train[len(train)-1]
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
	if slices.ContainsFunc(train, func(c events.MergeDetail) bool { return b.rounds.over(job.Project.Name, c) }) {
		return errOver
	}
	if master != m.Onto {
		return git.ErrMoved
	}
	// The branch may have been rewritten or deleted while its head was tested.
	for _, c := range train {
		if err := reviewed(ctx, repo, c); err != nil {
			return ofChange(c, err)
		}
	}
	if missing {
		// Another worker tested it; the same commit is made here.
		at := m.Onto
		for _, c := range train {
			if at, _, err = couple(ctx, repo, at, c); err != nil {
				return err
			}
		}
		if at != m.Commit {
			// This host's git merges to something else than what was tested: it has to be tested again.
			return fmt.Errorf("%w: the tested commit is %s and is made as %s here", git.ErrMoved, m.Commit, at)
		}
	}
	err = repo.Advance(ctx, m.Base, m.Onto, m.Commit)
	if errors.Is(err, git.ErrRefused) && len(train) == 1 { // else only the origin knows which of them it is about
		return found("%v", err)
	}
	return err
}

// land makes what the queue of a repository says the master copy, all at once or not at all.
func (b *builder) land(ctx context.Context, job *service.Job) error {
	planned, ok := job.Event.Content.(events.QueuePlanned)
	if !ok {
		return events.Reject(fmt.Errorf("%T asks for no merge", job.Event.Content))
	}
	if len(planned.Merged) == 0 {
		return nil
	}
	var f *finding
	reason, alone := "", false
	switch err := b.advance(ctx, job, planned.Merged); {
	case err == nil:
	case errors.Is(err, errOver):
		reason = "a change that it was tested with has left the queue: once more"
	case errors.Is(err, git.ErrMoved):
		reason = "the master copy has moved from what it was tested on: once more"
	case errors.Is(err, git.ErrRefused): // as with a fault, each is tried alone: what is refused alone leaves
		reason, alone = fmt.Sprintf("once more, alone: of a train of %d changes it is said: %v", len(planned.Merged), err), true
	default:
		var result string
		var again error
		if f, result, again = outcome(ctx, job, err); again != nil {
			return again
		}
		if reason = f.reason; result == events.Errored {
			f, reason = nil, "once more: "+reason // no change's doing: which of them meets it too, their next runs will show
		}
	}
	for _, m := range planned.Merged {
		var content any = events.QueueEntered{Merge: m, Reason: reason, Alone: alone}
		switch {
		case reason == "":
			content = events.ChangeMerged{Repository: &events.Reference{ID: m.Repository}, Lemnis: m}
		case f != nil && (f.change == "" || f.change == m.Change):
			content = events.QueueEjected{Merge: m, Reason: reason, Conflicts: f.conflicts}
		case f != nil:
			content = events.QueueEntered{Merge: m, Reason: fmt.Sprintf("once more, without change %s, with which it was tested: %s", f.change, reason)}
		}
		if err := job.Report(ctx, service.Report{Key: m.Change, Content: content}); err != nil {
			return err
		}
	}
	return nil
}

package lap

import (
	"context"
	"fmt"

	"github.com/lemnis/lemnis/pkg/events"
)

// reviewers are two, so that one of them is not the author.
var reviewers = []string{"rita", "raul"}

// develop proposes the change for the first item and has it reviewed.
func (l *Lap) develop(ctx context.Context) error { return l.propose(ctx, l.subject.Good, l.item) }

func (l *Lap) propose(ctx context.Context, c Change, item string) error {
	author, client, err := l.person(ctx, c.Author)
	if err != nil {
		return err
	}
	_, err = l.claim(ctx, said{id: "propose-" + c.ID, about: c.ID, chain: l.chain, by: client, content: events.ChangeCreated{
		Repository: &events.Reference{ID: l.subject.Service},
		Lemnis:     events.ChangeDetail{Repository: l.subject.Service, Title: c.Title, Branch: c.Branch, Head: c.Head, Author: author, Item: item},
	}})
	if err != nil {
		return err
	}
	l.tell("%s proposes “%s”: branch %s at %s", c.Author, c.Title, c.Branch, short(c.Head))
	needed := max(l.subject.Project.Review.Approvals, 1)
	for _, reviewer := range append(reviewers, "rosa", "rolf") {
		if reviewer == c.Author || needed == 0 {
			continue
		}
		needed--
		who, client, err := l.person(ctx, reviewer)
		if err != nil {
			return err
		}
		if _, err := l.claim(ctx, said{id: "review-" + c.ID + "-" + reviewer, about: c.ID, chain: l.chain, by: client, content: events.ChangeReviewed{
			Lemnis: events.Review{Reviewer: who, Verdict: events.Approved, Head: c.Head}}}); err != nil {
			return err
		}
		l.tell("%s approves", reviewer)
	}
	verified, err := l.journal.find(ctx, "the change to be verified", is(func(_ events.Event, v events.ChangeVerified) bool {
		return v.ID == c.ID && v.Change.Head == c.Head
	}))
	if err != nil {
		return err
	}
	if v, ok := verified.Content.(events.ChangeVerified); ok {
		l.tell("verified: %s", v.Reason)
	}
	return nil
}

// integrate waits until the change is in the master copy and in the registry.
func (l *Lap) integrate(ctx context.Context) error {
	_, err := l.merged(ctx, l.subject.Good)
	return err
}

// merged follows a change from the queue to its artifact. A repository that has no program has no artifact.
func (l *Lap) merged(ctx context.Context, c Change) (events.ArtifactDetail, error) {
	e, err := l.journal.find(ctx, "the merge", func(e events.Event) (bool, error) {
		if e.Kind != events.Stated {
			return false, nil
		}
		switch m := e.Content.(type) {
		case events.QueueEjected:
			if m.Merge.Change == c.ID {
				return false, fmt.Errorf("the change left the queue: %s", m.Reason)
			}
		case events.ChangeMerged:
			return e.Key == c.ID, nil
		}
		return false, nil
	})
	if err != nil {
		return events.ArtifactDetail{}, err
	}
	if m, ok := e.Content.(events.ChangeMerged); ok {
		l.tell("merged as %s: %s", short(m.Lemnis.Commit), evidence(m.Lemnis.Evidence))
	}
	e, err = l.journal.find(ctx, "the build", is(func(_ events.Event, b events.BuildFinished) bool { return b.Lemnis.Merge.Change == c.ID }))
	if err != nil {
		return events.ArtifactDetail{}, err
	}
	if b, ok := e.Content.(events.BuildFinished); ok && b.Lemnis.Outcome != events.Success {
		if !l.served {
			l.tell("nothing to package: %s", first(b.Lemnis.Reason))
			return events.ArtifactDetail{}, nil
		}
		return events.ArtifactDetail{}, fmt.Errorf("the build failed: %s", b.Lemnis.Reason)
	}
	artifact, err := l.published(ctx, func(d events.ArtifactDetail) bool { return d.Change == c.ID })
	if err == nil {
		l.tell("published %s, %.1f MB", artifact.Reference, float64(artifact.Size)/1e6)
	}
	return artifact, err
}

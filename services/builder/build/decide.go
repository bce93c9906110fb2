package build

import (
	"cmp"
	"fmt"

	"github.com/lemnis/lemnis/pkg/events"
)

// Decide says what an event makes of the build with this key.
func Decide(_ string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	if !p.Runs(events.Integrate) {
		return events.Fact{Content: e.Content, SubjectID: e.SubjectID}, e.Kind == events.Claim
	}
	if e.Kind == events.Claim {
		return events.Refuse(e, fmt.Sprintf("builds run here; %s cannot be claimed", e.Type.Short()))
	}
	under := s.Queued && !s.Finished
	switch c := e.Content.(type) {
	case events.ChangeMerged:
		// Of a train, what is packaged is packaged once, for the change at its end.
		if e.Kind == events.Stated && !s.Queued && c.Lemnis.With == "" {
			return queue(c.Lemnis)
		}
	case events.RepositoryCreated:
		// One that was deleted and is back starts anew.
		if e.Kind == events.Stated && !under {
			repo, _ := p.Repository(c.Name)
			return queue(events.MergeDetail{Repository: c.Name, Base: cmp.Or(repo.Branch, "main")})
		}
	case events.BuildStarted:
		if e.Kind == events.Result && under && e.Attempt > s.Attempt {
			return events.Fact{Content: c}, true
		}
	case events.BuildFinished:
		if e.Kind == events.Result && under && e.Attempt >= s.Attempt {
			return events.Fact{Content: c}, true
		}
	}
	return events.Fact{}, false
}

func queue(m events.MergeDetail) (events.Fact, bool) {
	return events.Fact{Content: events.BuildQueued{Lemnis: events.BuildDetail{Service: m.Repository, Merge: m}}}, true
}

package branch

import (
	"fmt"

	"github.com/lemnis/lemnis/pkg/events"
)

// Decide says what a claim makes of the branch with this key.
func Decide(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	if e.Kind != events.Claim {
		return events.Fact{}, false
	}
	var repository *events.Reference
	switch c := e.Content.(type) {
	case events.BranchCreated:
		if repository = c.Repository; s.Exists && p.Runs(events.Develop) {
			return events.Refuse(e, fmt.Sprintf("branch %q exists already", key))
		}
	case events.BranchDeleted:
		// One that was never heard of may go too: most branches are older than their project here.
		repository = c.Repository
	default:
		return events.Fact{}, false
	}
	if repository != nil && repository.ID != "" && p.Runs(events.Develop) {
		if _, known := p.Repository(repository.ID); !known {
			return events.Refuse(e, fmt.Sprintf("repository %q is not one of the project's", repository.ID))
		}
	}
	return events.Fact{Content: e.Content, SubjectID: e.SubjectID}, true
}

package branch

import "github.com/lemnis/lemnis/pkg/events"

// Kind names the aggregate; its key is <repository>/<branch>, or the subject's id alone where
// the repository is not named.
const Kind = "branch"

// Version of the fold.
const Version = 1

// Takes is empty: branches are only claimed.
var Takes []events.Type

// Route names the branch that a claim concerns.
func Route(_ events.Project, e events.Event) []string {
	if e.Kind != events.Claim {
		return nil
	}
	var repository *events.Reference
	switch c := e.Content.(type) {
	case events.BranchCreated:
		repository = c.Repository
	case events.BranchDeleted:
		repository = c.Repository
	default:
		return nil
	}
	if repository == nil || repository.ID == "" {
		return []string{e.Key}
	}
	return []string{repository.ID + "/" + e.Key}
}

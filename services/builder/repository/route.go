package repository

import (
	"cmp"

	"github.com/lemnis/lemnis/pkg/events"
)

// Kind names the aggregate; its key is the repository's name in the project's configuration.
const Kind = "repository"

// Version of the fold.
const Version = 1

// Takes is empty: repositories are only claimed.
var Takes []events.Type

// Route names the repository that a claim concerns.
func Route(_ events.Project, e events.Event) []string {
	r, ok := content(e)
	if !ok || e.Kind != events.Claim {
		return nil
	}
	return []string{cmp.Or(r.Name, e.Key)}
}

func content(e events.Event) (events.Repository, bool) {
	switch c := e.Content.(type) {
	case events.RepositoryCreated:
		return c.Repository, true
	case events.RepositoryModified:
		return c.Repository, true
	case events.RepositoryDeleted:
		return c.Repository, true
	}
	return events.Repository{}, false
}

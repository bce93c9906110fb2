package repository

import (
	"cmp"
	"fmt"

	"github.com/lemnis/lemnis/pkg/events"
)

// Decide says what a claim makes of the repository with this name.
func Decide(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	r, ok := content(e)
	if !ok || e.Kind != events.Claim {
		return events.Fact{}, false
	}
	configured, known := p.Repository(key)
	r.Name = key
	r.URI = cmp.Or(r.URI, s.Detail.URI, configured.URL)
	_, created := e.Content.(events.RepositoryCreated)
	_, deleted := e.Content.(events.RepositoryDeleted)
	if p.Runs(events.Integrate) {
		switch {
		case !known && !deleted:
			return events.Refuse(e, fmt.Sprintf("repository %q is not one of the project's: apply a configuration that names it", key))
		case created && s.Exists:
			return events.Refuse(e, fmt.Sprintf("repository %q takes part already", key))
		case deleted && !s.Exists: // one that is configured may be modified though nobody said that it was created
			return events.Refuse(e, fmt.Sprintf("repository %q does not take part; claim repository created first", key))
		}
	}
	fact := events.Fact{SubjectID: e.SubjectID}
	switch e.Content.(type) {
	case events.RepositoryCreated:
		fact.Content = events.RepositoryCreated{Repository: r}
	case events.RepositoryModified:
		fact.Content = events.RepositoryModified{Repository: r}
	default:
		fact.Content = events.RepositoryDeleted{Repository: r}
	}
	return fact, true
}

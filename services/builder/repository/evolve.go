package repository

import "github.com/lemnis/lemnis/pkg/events"

// State is what is known of a repository.
type State struct {
	Exists bool
	Detail events.Repository
}

// Evolve folds a fact of the repository.
func Evolve(s State, fact events.Event) State {
	switch c := fact.Content.(type) {
	case events.RepositoryCreated:
		return State{Exists: true, Detail: c.Repository}
	case events.RepositoryModified:
		return State{Exists: true, Detail: c.Repository}
	case events.RepositoryDeleted:
		s.Exists = false
	}
	return s
}

package branch

import "github.com/lemnis/lemnis/pkg/events"

// State is what is known of a branch.
type State struct{ Exists bool }

// Evolve folds a fact of the branch.
func Evolve(s State, fact events.Event) State {
	switch fact.Content.(type) {
	case events.BranchCreated:
		s.Exists = true
	case events.BranchDeleted:
		s.Exists = false
	}
	return s
}

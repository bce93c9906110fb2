package configuration

import "github.com/lemnis/lemnis/pkg/events"

// Evolve folds a fact of the aggregate.
func Evolve(s State, fact events.Event) State {
	if c, ok := fact.Content.(events.ProjectConfigured); ok {
		s.Revision = c.Revision
	}
	return s
}

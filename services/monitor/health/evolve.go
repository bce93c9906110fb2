package health

import "github.com/lemnis/lemnis/pkg/events"

// Evolve folds a fact.
func Evolve(s State, fact events.Event) State {
	if c, ok := fact.Content.(events.HealthChanged); ok {
		s.Status = c.Status
	}
	return s
}

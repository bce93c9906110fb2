package feedback

import "github.com/lemnis/lemnis/pkg/events"

// Evolve folds a fact of the piece.
func Evolve(s State, fact events.Event) State {
	if _, ok := fact.Content.(events.FeedbackReceived); ok {
		s.Received = true
	}
	return s
}

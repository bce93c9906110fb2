package build

import "github.com/lemnis/lemnis/pkg/events"

// State is what is known of a build.
type State struct {
	Queued   bool
	Finished bool
	Attempt  uint64 // of the worker that took it last
}

// Evolve folds a fact of the build.
func Evolve(s State, fact events.Event) State {
	switch fact.Content.(type) {
	case events.BuildQueued:
		return State{Queued: true}
	case events.BuildStarted:
		s.Attempt = fact.Attempt
	case events.BuildFinished:
		s.Attempt, s.Finished = fact.Attempt, true
	}
	return s
}

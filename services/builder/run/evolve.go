package run

import "github.com/lemnis/lemnis/pkg/events"

// State is what is known of a run.
type State struct {
	Queued   bool
	Finished bool
	Attempt  uint64 // of the worker that took it last
	Merge    events.MergeDetail
}

// Evolve folds a fact of the run.
func Evolve(s State, fact events.Event) State {
	switch c := fact.Content.(type) {
	case events.PipelineRunQueued:
		return State{Queued: true, Merge: c.Lemnis.Merge}
	case events.PipelineRunStarted:
		s.Attempt = fact.Attempt
	case events.PipelineRunFinished:
		s.Attempt, s.Finished = fact.Attempt, true
	}
	return s
}

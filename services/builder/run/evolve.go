package run

import "github.com/lemnis/lemnis/pkg/events"

// State is what is known of a run.
type State struct {
	Queued   bool
	Finished bool
	Attempt  uint64 // of the worker that took it last
	Merge    events.MergeDetail
	Train    events.RunDetail // of a queue's run
}

// Evolve folds a fact of the run.
func Evolve(s State, fact events.Event) State {
	switch c := fact.Content.(type) {
	case events.PipelineRunQueued:
		s = State{Queued: true, Merge: c.Lemnis.Merge}
		if len(c.Lemnis.Changes) > 0 {
			s.Train = c.Lemnis
		}
		return s
	case events.PipelineRunStarted:
		s.Attempt = fact.Attempt
	case events.PipelineRunFinished:
		s.Attempt, s.Finished = fact.Attempt, true
	}
	return s
}

package entry

import (
	"slices"

	"github.com/lemnis/lemnis/pkg/events"
)

// Stage is where a change stands in the queue.
type Stage string

// The stages of the current round. The empty one means that the change never was in the queue.
const (
	Waiting Stage = "waiting" // for its tests to end
	Tested  Stage = "tested"  // the merge result passed and is becoming the master copy
	Merged  Stage = "merged"
	Ejected Stage = "ejected"
)

// State is what is known of a change in the queue.
type State struct {
	Stage  Stage
	Merge  events.MergeDetail // of the current round
	Passed []Candidate        // the merge results that passed, oldest round first

	Slots    int    // of the queue that plans the current round; 0: none does
	Surveyed bool   // it is known what the current round touches
	Alone    bool   // it is merged together with no other
	Chain    string // that the change is part of
}

// Candidate is a merge result that passed its tests; nothing else may become the master copy.
type Candidate struct {
	Round  int
	Onto   string // commit of the master copy that it was tested on
	Commit string
	Merged bool
}

// Evolve folds a fact of the entry.
func Evolve(s State, fact events.Event) State {
	switch c := fact.Content.(type) {
	case events.QueueEntered:
		s.Stage, s.Merge = Waiting, c.Merge
		s.Slots, s.Surveyed, s.Alone, s.Chain = c.Slots, false, c.Alone, fact.Chain
	case events.QueueSurveyed:
		s.Surveyed = true
	case events.QueueTested:
		s.Stage, s.Merge = Tested, c.Merge
		s.Passed = append(slices.Clone(s.Passed), Candidate{Round: c.Merge.Round, Onto: c.Merge.Onto, Commit: c.Merge.Commit})
	case events.QueueEjected:
		// A change that was merged stays so: what left the queue then is a later wish.
		if s.Stage != Merged {
			s.Stage = Ejected
		}
		if s.Merge.Change == "" {
			s.Merge = c.Merge
		}
	case events.ChangeMerged:
		m := c.Lemnis
		if i := s.candidate(m); i >= 0 {
			s.Passed = slices.Clone(s.Passed)
			s.Passed[i].Merged = true
		}
		// A later round may have begun with another head; that one goes on.
		if m.Round == s.Merge.Round || s.Stage == "" {
			s.Stage, s.Merge = Merged, m
		}
	}
	return s
}

// candidate finds the merge result among those that passed; −1 when it is none of them.
func (s State) candidate(m events.MergeDetail) int {
	return slices.IndexFunc(s.Passed, func(c Candidate) bool {
		return c.Round == m.Round && c.Commit == m.Commit && c.Onto == m.Onto
	})
}

package loop

import "github.com/lemnis/lemnis/pkg/events"

// State counts the loops of a work item.
type State struct {
	Loops     int
	Failed    int
	TestFirst int
	Seconds   float64 // spent in all of them
}

// Evolve folds a fact of the item's loops.
func Evolve(s State, fact events.Event) State {
	c, ok := fact.Content.(events.LoopFinished)
	if !ok {
		return s
	}
	s.Loops++
	s.Seconds += c.Seconds
	if c.Outcome != events.Success {
		s.Failed++
	}
	if c.TestFirst {
		s.TestFirst++
	}
	return s
}

package item

import (
	"slices"

	"github.com/lemnis/lemnis/pkg/events"
)

// Evolve folds a fact of the item.
func Evolve(s State, fact events.Event) State {
	switch c := fact.Content.(type) {
	case events.TicketCreated:
		s.Status, s.Ticket, s.Detail = Open, c.Ticket, c.Lemnis
	case events.TicketUpdated:
		s.Ticket, s.Detail = c.Ticket, c.Lemnis
	case events.TicketClosed:
		s.Status = Closed
	case events.ValueEstimated:
		s.Estimates = with(s.Estimates, c.Estimate)
		s.Stated = &Worth{Title: c.Title, Feature: c.Feature, Value: c.Value, Cost: c.Cost, Requires: c.Requires}
		if id, ok := lessonOf(c.Estimate); ok {
			s.Lessons = append(slices.Clone(s.Lessons), id)
		}
	}
	return s
}

// with replaces the estimate of the same source and author, or adds one.
func with(all []events.Estimate, e events.Estimate) []events.Estimate {
	all = slices.Clone(all)
	for i, old := range all {
		if old.Source == e.Source && old.By == e.By {
			all[i] = e
			return all
		}
	}
	return append(all, e)
}

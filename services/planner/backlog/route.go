package backlog

import "github.com/lemnis/lemnis/pkg/events"

// Takes lists the facts that concern the backlog; its own two are the steps after an order and after a plan.
func Takes() []events.Type {
	return []events.Type{
		events.TypeOf(events.ValueEstimated{}),
		events.TypeOf(events.TicketClosed{}),
		events.TypeOf(events.BacklogRanked{}),
		events.TypeOf(events.ReleasePlanned{}),
	}
}

// Route names the project's backlog.
func Route(_ events.Project, e events.Event) []string {
	backlog := []string{e.Project}
	switch c := e.Content.(type) {
	case events.ValueEstimated, events.TicketClosed:
		if e.Kind == events.Stated {
			return backlog
		}
	case events.BacklogRanked, events.ReleasePlanned:
		if e.Kind != events.Result {
			return backlog
		}
	case events.ReleaseCompleted:
		if e.Kind == events.Claim {
			return backlog
		}
	case events.DeadlineReached:
		if e.Kind == events.Result && c.Aggregate == Kind {
			return backlog
		}
	}
	return nil
}

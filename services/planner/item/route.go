package item

import "github.com/lemnis/lemnis/pkg/events"

// Actions that a lesson asks of the plan.
const (
	reopen    = "reopen"
	raiseCost = "raise-cost"
)

// Takes lists the facts that concern items.
func Takes() []events.Type {
	return []events.Type{
		events.TypeOf(events.TicketCreated{}),
		events.TypeOf(events.TicketUpdated{}),
		events.TypeOf(events.InsightFound{}),
		events.TypeOf(events.LessonLearned{}),
		events.TypeOf(events.ServicePublished{}),
	}
}

// Route names the item that an event concerns.
func Route(p events.Project, e events.Event) []string {
	if e.Kind == events.Claim {
		switch c := e.Content.(type) {
		case events.TicketCreated, events.TicketUpdated, events.TicketClosed:
			return one(e.Key)
		case events.ValueEstimated:
			if c.Item != "" {
				return one(c.Item)
			}
			return one(e.Key)
		}
		return nil
	}
	if e.Kind != events.Stated {
		return nil
	}
	switch c := e.Content.(type) {
	case events.TicketCreated, events.TicketUpdated:
		return one(e.Key)
	case events.InsightFound:
		if c.Confirmed && p.Runs(events.Plan) {
			return one(c.Insight)
		}
	case events.LessonLearned:
		switch {
		case !p.Runs(events.Plan):
		case c.Action == reopen:
			return one(c.Lesson)
		case c.Action == raiseCost:
			return one(c.Item)
		}
	case events.ServicePublished:
		if c.Lemnis.Rollout.Next == "" && p.Runs(events.Plan) {
			return one(c.Lemnis.Rollout.Artifact.Item)
		}
	}
	return nil
}

func one(key string) []string {
	if key == "" {
		return nil
	}
	return []string{key}
}

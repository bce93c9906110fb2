package alert

import (
	"slices"

	"github.com/lemnis/lemnis/pkg/events"
)

// Decide says what an event makes of the alert of an incident.
func Decide(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	if e.Kind == events.Claim {
		return claim(key, s, e)
	}
	c, ok := e.Content.(events.AlertSent)
	if !ok || e.Kind != events.Result || !p.Runs(events.Operate) {
		return events.Fact{}, false
	}
	to := recipient(c)
	if slices.Contains(s.Sent, to) || !c.Delivered && slices.Contains(s.Tried, to) {
		return events.Fact{}, false // the effect came twice
	}
	return events.Fact{Content: c, SubjectID: key}, true
}

func claim(key string, s State, e events.Event) (events.Fact, bool) {
	switch c := e.Content.(type) {
	case events.AlertSent, events.AlertEscalated:
		return events.Fact{Content: c, SubjectID: key}, true // the phase's outside owner: the runtime has checked
	case events.AlertAcknowledged:
		c.Incident = key
		c.By = e.Actor(c.By)
		switch {
		case len(s.Sent)+len(s.Tried) == 0:
			return events.Refuse(e, "no alert was sent for "+key)
		case c.By == "":
			return events.Refuse(e, "an acknowledgement needs the name of whoever takes care")
		case s.Acknowledged != "":
			return events.Refuse(e, s.Acknowledged+" takes care already")
		}
		return events.Fact{Content: c, SubjectID: key}, true
	}
	return events.Refuse(e, e.Type.Short()+" is nothing that an alert takes")
}

func recipient(c events.AlertSent) string { return c.Channel + ":" + c.To }

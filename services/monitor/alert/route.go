package alert

import "github.com/lemnis/lemnis/pkg/events"

// Takes is empty: alerts follow from results of sending and from claims.
var Takes []events.Type

// Route names the incident that an alert is about.
func Route(_ events.Project, e events.Event) []string {
	if e.Kind == events.Stated {
		return nil
	}
	incident := ""
	switch c := e.Content.(type) {
	case events.AlertSent:
		incident = c.Incident
	case events.AlertAcknowledged:
		if incident = c.Incident; incident == "" {
			incident = e.SubjectID
		}
	case events.AlertEscalated:
		incident = c.Incident
	}
	if incident == "" {
		return nil
	}
	return []string{incident}
}

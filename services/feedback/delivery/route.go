package delivery

import "github.com/lemnis/lemnis/pkg/events"

// Takes lists the facts that figures are made of.
func Takes() []events.Type {
	return []events.Type{
		events.TypeOf(events.ServicePublished{}),
		events.TypeOf(events.ServiceRolledback{}),
		events.TypeOf(events.IncidentResolved{}),
	}
}

// Route names the project's figures for what happens in the last environment.
func Route(p events.Project, e events.Event) []string {
	if e.Kind != events.Stated || !p.Runs(events.Learn) {
		return nil
	}
	last := true
	switch c := e.Content.(type) {
	case events.ServicePublished:
		last = c.Lemnis.Rollout.Next == ""
	case events.ServiceRolledback:
		last = c.Lemnis.Rollout.Next == ""
	case events.IncidentResolved:
	default:
		return nil
	}
	if !last {
		return nil
	}
	return []string{e.Project}
}

package health

import (
	"fmt"

	"github.com/lemnis/lemnis/pkg/events"
)

// Decide states a change of status.
func Decide(_ string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	c, ok := e.Content.(events.HealthChanged)
	if !ok {
		return events.Fact{}, false
	}
	switch c.Status {
	case events.Healthy, events.Degraded, events.Unhealthy, events.Unknown:
	default:
		if e.Kind == events.Claim {
			return events.Refuse(e, fmt.Sprintf("status %q is none of healthy, degraded, unhealthy, unknown", c.Status))
		}
		return events.Fact{}, false
	}
	switch {
	case e.Kind == events.Claim && c.Status == s.Status:
		return events.Refuse(e, "it is "+c.Status+" already")
	case c.Status == s.Status, e.Kind == events.Result && !p.Runs(events.Operate), e.Kind == events.Stated:
		return events.Fact{}, false
	}
	c.Before = s.Status
	if c.Before == "" {
		c.Before = events.Unknown
	}
	return events.Fact{Content: c}, true
}

package health

import "github.com/lemnis/lemnis/pkg/events"

// Takes is empty: health follows from results of probes alone.
var Takes []events.Type

// Route names what a probe, or an outside tool, speaks of.
func Route(_ events.Project, e events.Event) []string {
	if c, ok := e.Content.(events.HealthChanged); ok && e.Kind != events.Stated && c.Environment != "" && c.Service != "" {
		return []string{Key(c.Environment, c.Service, c.Feature)}
	}
	return nil
}

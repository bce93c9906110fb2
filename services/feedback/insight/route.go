package insight

import "github.com/lemnis/lemnis/pkg/events"

// Takes lists no facts: what was understood comes as a result.
func Takes() []events.Type { return nil }

// Route names the project's themes.
func Route(_ events.Project, e events.Event) []string {
	if _, ok := e.Content.(events.Understanding); ok && e.Kind == events.Result {
		return []string{e.Project}
	}
	return nil
}

package configuration

import "github.com/lemnis/lemnis/pkg/events"

// Takes lists no facts: a configuration follows from claims alone.
func Takes() []events.Type { return nil }

// Route sends claims of a configuration to the project's aggregate.
func Route(_ events.Project, e events.Event) []string {
	if _, ok := e.Content.(events.ProjectConfigured); ok && e.Kind == events.Claim {
		return []string{e.Project}
	}
	return nil
}

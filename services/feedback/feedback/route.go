package feedback

import "github.com/lemnis/lemnis/pkg/events"

// Takes lists no facts: feedback comes as claims.
func Takes() []events.Type { return nil }

// Route names the piece of feedback that a claim brings.
func Route(_ events.Project, e events.Event) []string {
	if _, ok := e.Content.(events.FeedbackReceived); ok && e.Kind == events.Claim && e.Key != "" {
		return []string{e.Key}
	}
	return nil
}

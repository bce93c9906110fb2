package lesson

import "github.com/lemnis/lemnis/pkg/events"

// Takes lists the facts that teach something.
func Takes() []events.Type { return []events.Type{events.TypeOf(events.IncidentResolved{})} }

// Route names the lesson by its incident.
func Route(p events.Project, e events.Event) []string {
	switch c := e.Content.(type) {
	case events.IncidentResolved:
		if e.Kind == events.Stated && e.Key != "" && p.Runs(events.Learn) {
			return []string{e.Key}
		}
	case events.LessonLearned:
		if e.Kind != events.Claim {
			return nil
		}
		if c.Lesson != "" {
			return []string{c.Lesson}
		}
		if e.Key != "" {
			return []string{e.Key}
		}
	}
	return nil
}

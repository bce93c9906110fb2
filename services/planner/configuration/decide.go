package configuration

import (
	"fmt"

	"github.com/lemnis/lemnis/pkg/events"
)

// Decide accepts a valid configuration as the next revision. A claim that names a revision says
// which one it expects to become: so two people cannot overwrite one another unseen.
func Decide(_ string, s State, _ events.Project, e events.Event) (events.Fact, bool) {
	c, ok := e.Content.(events.ProjectConfigured)
	if !ok || e.Kind != events.Claim {
		return events.Fact{}, false
	}
	next := s.Revision + 1
	if c.Project.Name != e.Project {
		return events.Refuse(e, fmt.Sprintf("the configuration is of project %q, and was sent to %q", c.Project.Name, e.Project))
	}
	if c.Revision != 0 && c.Revision != next {
		return events.Refuse(e, fmt.Sprintf("it was written as revision %d, but %d is in force: look at what changed, and apply it as %d", c.Revision, s.Revision, next))
	}
	if err := c.Project.Validate(); err != nil {
		return events.Refuse(e, err.Error())
	}
	return events.Fact{Content: events.ProjectConfigured{Revision: next, Project: c.Project}}, true
}

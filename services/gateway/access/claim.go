package access

import "github.com/lemnis/lemnis/pkg/events"

// OfClaim is the scope that a claim needs. What a person decides for an environment is apart from what tools report of
// the phase, and the project's configuration, which holds the gates, is for whoever administers it.
func OfClaim(e events.Event) Scope {
	switch c := e.Content.(type) {
	case events.ProjectConfigured:
		return Need(Admin, "", e.Project)
	case events.ApprovalGiven:
		return Need(Decide, c.Environment, e.Project)
	case events.ApprovalRefused:
		return Need(Decide, c.Environment, e.Project)
	case events.DeploymentRequested:
		return Need(Decide, c.Rollout.Environment, e.Project)
	case events.DeploymentPaused:
		return Need(Decide, c.Rollout.Environment, e.Project)
	case events.DeploymentResumed:
		return Need(Decide, c.Rollout.Environment, e.Project)
	case events.DeploymentAborted:
		return Need(Decide, c.Rollout.Environment, e.Project)
	case events.FlagChanged:
		return Need(Decide, c.Environment, e.Project)
	}
	return Need(Publish, string(e.Phase), e.Project)
}

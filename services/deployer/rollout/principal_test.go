package rollout_test

import (
	"slices"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

// One principal is one person, whatever names it gives: it can neither be two approvers nor hide that it is the author.
func TestForgedApprovals(t *testing.T) {
	s := newShop(t, events.Environment{Name: "prod", Gate: events.Gate{Tests: "passed", Approvals: 2}})
	as := func(name string) events.ApprovalGiven {
		return events.ApprovalGiven{Environment: "prod", Service: "api", By: name}
	}
	s.publish(1) // by ann
	s.refused("ann", as("bo"), "author")
	s.refused("Ann", as(""), "author")
	s.claim("mallory", as("bo"))
	s.refused("mallory", as("cy"), "already")
	s.refused("MALLORY", as(""), "already")
	s.wantStory("prod/api", "deployment.requested, gate.evaluated, approval.requested, approval.given")
	s.claim("webhook-github", as("bo")) // whose sender has authenticated bo
	var given []string
	for _, f := range s.Facts() {
		if c, ok := f.Content.(events.ApprovalGiven); ok {
			given = append(given, c.By+" as "+f.Principal)
		}
	}
	if !slices.Equal(given, []string{"mallory as mallory", "bo as webhook-github"}) {
		t.Errorf("approvals by %q", given)
	}
}

// What somebody ended is on the stream under who they are.
func TestDecisionsAreByThePrincipal(t *testing.T) {
	s := newShop(t, events.Environment{Name: "prod", Gate: events.Gate{Tests: "passed", Approvals: 1}})
	s.publish(1)
	r := events.Rollout{Environment: "prod", Service: "api"}
	for _, claim := range []any{events.DeploymentPaused{Rollout: r, By: "bo"}, events.DeploymentResumed{Rollout: r, By: "bo"}, events.DeploymentAborted{Rollout: r, By: "bo"}} {
		by := ""
		switch c := s.claim("mallory", claim).Content.(type) {
		case events.DeploymentPaused:
			by = c.By
		case events.DeploymentResumed:
			by = c.By
		case events.DeploymentAborted:
			by = c.By
		}
		if by != "mallory" {
			t.Errorf("%T is by %q", claim, by)
		}
	}
}

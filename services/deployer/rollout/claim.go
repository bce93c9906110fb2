package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

// claim answers what a person or an outside tool asks for.
func claim(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	if !p.Runs(events.Deploy) {
		return adopt(key, p, e)
	}
	environment, _ := SplitKey(key)
	policy, _ := p.Environment(environment)
	if e.Principal != "" && e.Principal == policy.DeployedBy() {
		if f, ok := s.outside(p, e); ok {
			return f, ok
		}
	}
	// Who decides is the principal; the name in the content counts only where that speaks for others.
	switch c := e.Content.(type) {
	case events.DeploymentRequested:
		return s.requestedByHand(key, p, e, c)
	case events.ApprovalGiven:
		if reason := s.mayApprove(c, e); reason != "" {
			return events.Refuse(e, reason)
		}
		c.By, c.Rollout = e.Actor(c.By), s.Current.Rollout.ID
		return s.fact(c)
	case events.ApprovalRefused:
		if reason := s.awaitsApproval(c.Rollout); reason != "" {
			return events.Refuse(e, reason)
		}
		c.By, c.Rollout = e.Actor(c.By), s.Current.Rollout.ID
		return s.fact(c)
	case events.DeploymentPaused:
		if reason := s.inFlight(c.Rollout.ID); reason != "" {
			return events.Refuse(e, reason)
		}
		if s.Paused {
			return events.Refuse(e, "it is paused already")
		}
		c.By, c.Rollout, c.Incident = person(e, c.By), s.Current.Rollout, ""
		return s.fact(c)
	case events.DeploymentResumed:
		if reason := s.inFlight(c.Rollout.ID); reason != "" {
			return events.Refuse(e, reason)
		}
		if !s.paused() {
			return events.Refuse(e, "it is not paused")
		}
		c.By, c.Rollout, c.Incident = person(e, c.By), s.Current.Rollout, ""
		return s.fact(c)
	case events.DeploymentAborted:
		if s.Stage == Idle && s.Kept != nil {
			return s.takeBack(key, e, c)
		}
		reason := s.inFlight(c.Rollout.ID)
		switch s.Stage {
		case Shifting:
			reason = "it serves all users already; request the artifact of before instead"
		case Undoing, Undone:
			reason = "it is being rolled back already"
		}
		if reason != "" {
			return events.Refuse(e, reason)
		}
		c.By, c.Rollout = e.Actor(c.By), s.Current.Rollout
		return s.fact(c)
	}
	switch e.Content.(type) {
	case events.ServiceDeployed, events.ServiceUpgraded, events.ServiceRolledback, events.DeploymentFailed:
		return events.Refuse(e, fmt.Sprintf("%q does not deploy to %s", e.Principal, environment))
	}
	return events.Refuse(e, e.Type.Short()+" can not be asked for: a rollout says it when it happens")
}

// person is who decides; nobody takes the name that stands for an incident.
func person(e events.Event, by string) string {
	if name := e.Actor(by); name != Halter {
		return name
	}
	return "a person called " + Halter
}

// inFlight says why there is no such rollout; empty when there is.
func (s State) inFlight(id string) string {
	switch {
	case s.Stage == Idle:
		return "no rollout is in flight here"
	case id != "" && !s.is(id):
		return fmt.Sprintf("the rollout in flight is %s, not %s", s.Current.Rollout.ID, id)
	}
	return ""
}

// awaitsApproval says why nobody is asked; empty when somebody is.
func (s State) awaitsApproval(id string) string {
	if reason := s.inFlight(id); reason != "" {
		return reason
	}
	if s.Stage != Approving {
		return "the rollout does not wait for an approval"
	}
	return ""
}

func (s State) mayApprove(c events.ApprovalGiven, e events.Event) string {
	reason, person, author := s.awaitsApproval(c.Rollout), e.Actor(c.By), s.Current.Rollout.Artifact.Author
	if s.Stage == Observing && s.Held && s.Waived == "" && s.inFlight(c.Rollout) == "" {
		reason = "" // a canary with too little traffic for a verdict: a person may give it
	}
	switch {
	case reason != "":
		return reason
	case person == "":
		return "an approval needs the name of whoever gives it"
	case author != "" && (strings.EqualFold(person, author) || strings.EqualFold(e.Principal, author)):
		return fmt.Sprintf("%s is the artifact's author; somebody else has to approve it", author)
	case slices.ContainsFunc(s.Approvals, func(other string) bool { return strings.EqualFold(other, person) }) && s.Stage == Approving:
		return person + " has approved it already"
	}
	return ""
}

// requestedByHand takes a digest that was here before: of no other it is known what it proved.
func (s State) requestedByHand(key string, p events.Project, e events.Event, c events.DeploymentRequested) (events.Fact, bool) {
	environment, service := SplitKey(key)
	if _, i := p.Environment(environment); i < 0 {
		return events.Refuse(e, fmt.Sprintf("the project has no environment %q", environment))
	}
	digest := c.Rollout.Artifact.Digest
	for _, k := range slices.Backward(s.Known) {
		a := k.Rollout.Artifact
		if digest != "" && a.Digest != digest {
			continue
		}
		switch {
		case s.Barred[a.Digest] != "":
			return events.Refuse(e, fmt.Sprintf("%s is barred: %s", a.Digest, s.Barred[a.Digest]))
		case s.onItsWay(a.Digest):
			return events.Refuse(e, a.Digest+" is on its way already")
		}
		return ask(key, p, e, a, k.Promotion, because("asked for by "+cmp.Or(e.Principal, "a person"), c.Reason))
	}
	if digest == "" {
		return events.Refuse(e, fmt.Sprintf("nothing of %s has ever come to %s", service, environment))
	}
	return events.Refuse(e, fmt.Sprintf("no artifact with the digest %s of %s has come to %s through the environments before; the last %d are remembered", digest, service, environment, known))
}

// adopt takes the word of the outside tool that does the phase.
func adopt(key string, p events.Project, e events.Event) (events.Fact, bool) {
	if e.Principal != p.Owner(events.Deploy) {
		return events.Refuse(e, fmt.Sprintf("deployments of this project are done by %q", p.Owner(events.Deploy)))
	}
	f := events.Fact{Content: e.Content, SubjectID: e.SubjectID}
	complete := func(d events.ServiceDetail, artifact string) events.ServiceDetail {
		r := &d.Rollout
		r.Environment, r.Service = SplitKey(key)
		r.ID = cmp.Or(r.ID, e.ID)
		r.Artifact.ID = cmp.Or(r.Artifact.ID, artifact)
		r.Next, r.Target = "", events.OutsideTarget
		if _, i := p.Environment(r.Environment); i >= 0 && i+1 < len(p.Environments) {
			r.Next = p.Environments[i+1].Name
		}
		return d
	}
	switch c := e.Content.(type) {
	case events.ServiceDeployed:
		c.Lemnis = complete(c.Lemnis, c.ArtifactID)
		f.Content = c
	case events.ServiceUpgraded:
		c.Lemnis = complete(c.Lemnis, c.ArtifactID)
		f.Content = c
	case events.ServiceRolledback:
		c.Lemnis = complete(c.Lemnis, c.ArtifactID)
		f.Content = c
	case events.ServicePublished:
		c.Lemnis = complete(c.Lemnis, "")
		f.Content = c
	}
	return f, true
}

package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/gate"
)

// Decide says what an event makes of the rollouts of one service in one environment.
func Decide(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	switch {
	case e.Kind == events.Claim:
		return claim(key, s, p, e)
	case !p.Runs(events.Deploy):
		return events.Fact{}, false
	case e.Kind == events.Result:
		return result(s, p, e)
	}
	switch c := e.Content.(type) {
	case events.ArtifactPublished:
		return s.enter(key, p, e, c.Lemnis, gate.Promotion{}, "published by the pipeline")
	case events.ServicePublished:
		if e.Key != key {
			environment, _ := SplitKey(e.Key)
			return s.enter(key, p, e, c.Lemnis.Rollout.Artifact, gate.Promotion{Environment: environment, Fact: e.ID},
				"serves all users of "+environment)
		}
	case events.ArtifactBarred:
		if e.Key != key {
			if s.Barred[c.Digest] != "" {
				return events.Fact{}, false
			}
			return events.Fact{Content: c, SubjectID: c.ArtifactID}, true
		}
	}
	if e.Key != key {
		return events.Fact{}, false
	}
	return s.next(key, p, e)
}

// fact belongs to the rollout in flight, and so to its turn of the loop.
func (s State) fact(content any) (events.Fact, bool) {
	return events.Fact{Content: content, Chain: s.Current.Chain}, true
}

func (s State) fail(step, reason string) (events.Fact, bool) {
	return s.fact(events.DeploymentFailed{Rollout: s.Current.Rollout, Step: step, Reason: reason})
}

// enter requests an artifact by the loop's own doing.
func (s State) enter(key string, p events.Project, e events.Event, a events.ArtifactDetail, proof gate.Promotion, reason string) (events.Fact, bool) {
	switch {
	case s.onItsWay(a.Digest):
		return events.Fact{}, false
	case s.Stage == Idle && s.Queued == nil && s.Serving != nil && s.Serving.Artifact.Digest == a.Digest:
		return events.Fact{}, false // it is there already
	}
	return ask(key, p, e, a, proof, reason)
}

// onItsWay reports whether the newest request is for this artifact.
func (s State) onItsWay(digest string) bool {
	if s.Queued != nil {
		return s.Queued.Rollout.Artifact.Digest == digest
	}
	return s.Stage != Idle && s.Current.Rollout.Artifact.Digest == digest
}

func ask(key string, p events.Project, e events.Event, a events.ArtifactDetail, proof gate.Promotion, reason string) (events.Fact, bool) {
	environment, service := SplitKey(key)
	policy, i := p.Environment(environment)
	if i < 0 {
		return events.Fact{}, false
	}
	r := events.Rollout{
		// Of the cause's place on the stream: unique, and nothing in it is chosen outside.
		ID:          fmt.Sprintf("%s@%d", key, e.Sequence),
		Environment: environment, Service: service, Artifact: a, Strategy: policy.Strategy,
	}
	if i+1 < len(p.Environments) {
		r.Next = p.Environments[i+1].Name
	}
	f := events.Fact{Content: events.DeploymentRequested{Rollout: r, Reason: reason}}
	if proof.Fact != "" {
		f.Links = []events.Link{{Type: events.Relation, Kind: promotion, Context: proof.Fact, Tags: map[string]string{"environment": proof.Environment}}}
	}
	return f, true
}

// next is what a rollout does without being asked, as far as its stage leads to a fact at once.
func (s State) next(key string, p events.Project, e events.Event) (events.Fact, bool) {
	environment, _ := SplitKey(key)
	policy, i := p.Environment(environment)
	switch s.Stage { // a pause holds the way forward, not the way back
	case Observing:
		return s.judge(p, policy, e)
	case Closed, Refused:
		return s.fail("gate", s.Reason)
	case Failing:
		return s.fail("test", s.Reason)
	case Undone:
		a := s.Current.Rollout.Artifact
		f, ok := s.fact(events.ArtifactBarred{ArtifactID: a.ID, Digest: a.Digest, Service: a.Service,
			Reason: because("rolled back in "+environment, s.Reason)})
		f.SubjectID = a.ID
		return f, ok
	}
	if s.Paused {
		return events.Fact{}, false
	}
	switch s.Stage {
	case Idle:
		if s.Queued != nil {
			return s.evaluate(*s.Queued, p, e, nil)
		}
	case Requested:
		return s.evaluate(s.Current, p, e, nil)
	case Soaking:
		if gate.Evaluate(p.Gate(i), s.input(s.Current, e)).Wait <= 0 {
			return s.evaluate(s.Current, p, e, nil) // the deadline passed while it was paused
		}
	case Gated:
		if needed := policy.Gate.Approvals; needed > len(s.Approvals) {
			return s.fact(events.ApprovalRequested{Rollout: s.Current.Rollout, Needed: needed})
		}
		return s.start(p, policy, e)
	case Approving:
		if len(s.Approvals) >= policy.Gate.Approvals {
			return s.start(p, policy, e)
		}
	case Tested:
		return s.firstStep()
	case Promoted:
		return s.fact(events.CanaryStepped{Rollout: s.Current.Rollout, Step: s.Step + 1, Weight: 1, Reason: "promoted"})
	}
	return events.Fact{}, false
}

func (s State) input(r Request, e events.Event) gate.Input {
	return gate.Input{Artifact: r.Rollout.Artifact, Promotion: r.Promotion, Soaked: e.Stored.Sub(r.Since),
		Barred: s.Barred[r.Rollout.Artifact.Digest], Now: e.Stored}
}

// evaluate is the gate's answer; a gate that is closed only for a time sets a deadline. looked are the checks that the effect
// verify looked up.
func (s State) evaluate(r Request, p events.Project, e events.Event, looked []events.Check) (events.Fact, bool) {
	c := events.GateEvaluated{Rollout: r.Rollout}
	_, i := p.Environment(r.Rollout.Environment)
	if i < 0 {
		c.Checks = []events.Check{{Name: "environment", Value: "not configured", Threshold: "configured"}}
		return events.Fact{Content: c, Chain: r.Chain}, true
	}
	in := s.input(r, e)
	in.Looked = looked
	out := gate.Evaluate(p.Gate(i), in)
	c.Checks, c.Passed = out.Checks, out.Passed
	return events.Fact{Content: c, Chain: r.Chain, Timer: out.Wait}, true
}

// start runs what passed the gate. People may have taken their time: what is frozen meanwhile waits once more.
func (s State) start(p events.Project, policy events.Environment, e events.Event) (events.Fact, bool) {
	if end, _ := gate.Frozen(policy.Gate.Freeze, e.Stored); !end.IsZero() {
		return s.evaluate(s.Current, p, e, nil)
	}
	r := s.Current.Rollout
	r.Previous, r.Strategy = s.Serving, policy.Strategy
	return s.fact(events.DeploymentStarted{Rollout: r})
}

func (s State) firstStep() (events.Fact, bool) {
	step := events.CanaryStepped{Rollout: s.Current.Rollout, Step: 1, Weight: 1, Reason: "all users at once"}
	switch {
	case s.Current.Rollout.Strategy != "canary":
	case s.Current.Rollout.Previous == nil:
		step.Reason = "the first deployment: there is nothing to compare it with"
	default:
		step.Weight, step.Reason = firstWeight, "a part of the users first"
	}
	return s.fact(step)
}

// result takes what an effect reports, when it is about the rollout in flight and the stage waits for it: so a
// result that comes late, or twice, or from a worker that was replaced, changes nothing.
func result(s State, p events.Project, e events.Event) (events.Fact, bool) {
	if _, ok := e.Content.(events.DeadlineReached); ok {
		if s.Stage == Soaking && !s.Paused {
			return s.evaluate(s.Current, p, e, nil)
		}
		return events.Fact{}, false
	}
	if !s.is(rolloutOf(e.Content)) {
		return events.Fact{}, false
	}
	subject := s.Current.Rollout.Service
	content, wanted := e.Content, false
	switch c := e.Content.(type) {
	case events.GateEvaluated: // what the effect verify looked up
		if s.Stage != Verifying {
			return events.Fact{}, false
		}
		return s.evaluate(s.Current, p, e, c.Checks)
	case events.ServiceDeployed:
		c.Lemnis.Rollout = s.rollout(e)
		content, wanted = c, s.Stage == Starting
	case events.ServiceUpgraded:
		c.Lemnis.Rollout = s.rollout(e)
		content, wanted = c, s.Stage == Starting
	case events.DeploymentFailed:
		c.Rollout = s.rollout(e)
		content, subject = c, ""
		wanted = s.Stage == Starting || s.Stage == Placed || s.Stage == Observing
	case events.TestSuiteRunFinished:
		wanted, subject = s.Stage == Placed, e.SubjectID
	case events.CanaryObserved:
		wanted, subject = s.Stage == Observing && c.Tick > s.Tick, ""
	case events.ServicePublished:
		c.Lemnis.Rollout = s.rollout(e)
		content, wanted = c, s.Stage == Shifting
	case events.ServiceRolledback:
		c.Lemnis.Rollout = s.rollout(e)
		content, wanted = c, s.Stage == Undoing
	}
	if !wanted {
		return events.Fact{}, false
	}
	f, _ := s.fact(content)
	f.SubjectID, f.Phase = subject, events.Deploy
	return f, true
}

// rollout is the one in flight, with the attempt that a result comes from.
func (s State) rollout(e events.Event) events.Rollout {
	r := s.Current.Rollout
	r.Attempt = e.Attempt
	return r
}

// claim answers what a person or an outside tool asks for.
func claim(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	if !p.Runs(events.Deploy) {
		return adopt(key, p, e)
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
		c.By, c.Rollout = e.Actor(c.By), s.Current.Rollout
		return s.fact(c)
	case events.DeploymentResumed:
		if reason := s.inFlight(c.Rollout.ID); reason != "" {
			return events.Refuse(e, reason)
		}
		if !s.Paused {
			return events.Refuse(e, "it is not paused")
		}
		c.By, c.Rollout = e.Actor(c.By), s.Current.Rollout
		return s.fact(c)
	case events.DeploymentAborted:
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
	return events.Refuse(e, e.Type.Short()+" can not be asked for: a rollout says it when it happens")
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
		r.Next = ""
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

package rollout

import (
	"fmt"
	"time"

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
	case events.ServiceRolledback:
		if e.Key != key {
			return s.together(c.Lemnis.Rollout, c.Lemnis.Reason)
		}
	case events.ArtifactBarred:
		if e.Key != key {
			// Other environments follow too, and why they do may be older than what has freed it here.
			if e.CauseSequence < s.Freed || s.Barred[c.Digest] != "" {
				return events.Fact{}, false
			}
			c.Rollout = ""
			return events.Fact{Content: c, SubjectID: c.ArtifactID}, true
		}
	}
	if t, environment := troubleIn(e); environment != "" {
		return s.trouble(key, t)
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

// barred says that an artifact may enter no environment.
func barred(a events.ArtifactDetail, reason string) (events.Fact, bool) {
	return events.Fact{Content: events.ArtifactBarred{ArtifactID: a.ID, Digest: a.Digest, Service: a.Service, Reason: reason}, SubjectID: a.ID}, true
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
	if len(s.Dropped) > 0 {
		q := s.Dropped[0]
		return events.Fact{Content: events.DeploymentFailed{Rollout: q.Rollout, Step: "queue", Reason: q.Reason}, Chain: q.Chain}, true
	}
	if b := s.TakenBack; b != nil {
		return barred(b.Artifact, because("rolled back in "+environment, b.Reason))
	}
	for _, first := range []func() (events.Fact, bool){s.outlawed, func() (events.Fact, bool) { return s.giveWay(key, e) }} {
		if f, ok := first(); ok {
			return f, ok
		}
	}
	if i < 0 {
		if f, ok := s.homeless(environment); ok {
			return f, ok
		}
	}
	if f, ok := s.unsteady(policy, e.Stored); ok {
		return f, ok
	}
	switch s.Stage { // a pause holds the way forward, not the way back
	case Observing:
		if s.deserted() && !s.paused() {
			return s.deserts()
		}
		return s.judge(p, policy, e)
	case Closed, Refused:
		return s.fail("gate", s.Reason)
	case Failing:
		return s.fail("test", s.Reason)
	case Undone:
		f, ok := barred(s.Current.Rollout.Artifact, because("rolled back in "+environment, s.Reason))
		f.Chain = s.Current.Chain
		return f, ok
	}
	if s.paused() {
		return events.Fact{}, false
	}
	switch s.Stage {
	case Idle:
		switch {
		case s.Suspect != "":
			if f, ok := s.goBack(s.Suspect); ok {
				return f, ok
			}
		case s.Revert != nil && s.Serving.Rollout == s.Revert.Rollout:
			return s.revert(key, e)
		case s.Revert != nil:
			return s.reverted(key, p)
		case s.outlived(e.Stored):
			return s.retire(e)
		}
		if s.Queued != nil {
			return s.evaluate(*s.Queued, p, e, nil)
		}
	case Requested:
		return s.evaluate(s.Current, p, e, nil)
	case Starting:
		return s.overdue(e.Stored)
	case Soaking:
		if gate.Evaluate(policyOf(s.Current, p, i), s.input(s.Current, e)).Wait <= 0 {
			return s.evaluate(s.Current, p, e, nil) // the deadline passed while it was paused
		}
	case Gated:
		if needed := policy.Gate.Approvals; needed > len(s.Approvals) && !s.Current.Rollout.Back {
			return s.fact(events.ApprovalRequested{Rollout: s.Current.Rollout, Needed: needed})
		}
		return s.start(p, policy, e)
	case Approving:
		if len(s.Approvals) >= policy.Gate.Approvals {
			return s.start(p, policy, e)
		}
	case Placed:
		if s.Current.Rollout.Target == events.OutsideTarget {
			return s.publishedOutside()
		}
		if s.Current.Rollout.Back { // it was tested when it came
			return s.firstStep()
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
	out := gate.Evaluate(policyOf(r, p, i), in)
	c.Checks, c.Passed = out.Checks, out.Passed
	return events.Fact{Content: c, Chain: r.Chain, Timer: out.Wait}, true
}

// start runs what passed the gate. People may have taken their time: what is frozen meanwhile waits once more.
func (s State) start(p events.Project, policy events.Environment, e events.Event) (events.Fact, bool) {
	if s.frozen(policy, e.Stored) {
		return s.evaluate(s.Current, p, e, nil)
	}
	r := s.Current.Rollout
	r.Previous = s.Serving
	if !r.Back {
		r.Strategy = policy.Strategy
	}
	if owner := policy.DeployedBy(); owner != "" {
		return s.askOutside(r, owner, policy, e.Stored)
	}
	if r.Previous != nil && r.Previous.Target == events.OutsideTarget {
		r.Previous = nil // there is nothing here to compare it with, or to move users away from
	}
	if k := s.Kept; k != nil && k.Artifact.Digest == r.Artifact.Digest {
		r.Process = k.Runs()
	}
	c := events.DeploymentStarted{Rollout: r}
	if r.Strategy == events.CanaryStrategy && r.Previous != nil && policy.Canary != nil && policy.Canary.Baseline == events.FreshBaseline {
		c.Baseline = r.ID + "/baseline"
	}
	return s.fact(c)
}

func (s State) firstStep() (events.Fact, bool) {
	if s.Current.Rollout.Strategy == events.CanaryStrategy && s.deserted() {
		return s.deserts()
	}
	step := events.CanaryStepped{Rollout: s.Current.Rollout, Step: 1, Weight: 1, Reason: "all users at once"}
	switch {
	case s.keeps():
		step.Reason = "all users at once; what served them before is kept"
	case s.Current.Rollout.Strategy != events.CanaryStrategy:
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
		if s.outlived(e.Stored) { // what the deadline was for else, follows from the fact
			return s.retire(e)
		}
		if s.Stage == Soaking && !s.paused() {
			return s.evaluate(s.Current, p, e, nil)
		}
		return s.overdue(e.Stored)
	}
	if f, ok := s.drift(e); ok {
		return f, ok
	}
	if !s.is(rolloutOf(e.Content)) {
		return events.Fact{}, false
	}
	subject := s.Current.Rollout.Service
	content, wanted, timer := e.Content, false, time.Duration(0)
	policy, _ := p.Environment(s.Current.Rollout.Environment)
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
		wanted = s.Stage == Starting || s.Stage == Placed || s.Stage == Observing || s.Stage == Shifting
	case events.TestSuiteRunFinished:
		wanted, subject = s.Stage == Placed, e.SubjectID
	case events.CanaryObserved:
		wanted, subject = s.Stage == Observing && c.Tick > s.Tick, ""
	case events.ServicePublished:
		c.Lemnis.Rollout = s.rollout(e)
		if wanted = s.Stage == Shifting; wanted && s.keeps() {
			timer = policy.Keeps()
			c.Lemnis.Kept, c.Lemnis.Until = s.Serving, deadline(e.Stored, timer)
		}
		content = c
	case events.ServiceRolledback:
		c.Lemnis.Rollout = s.rollout(e)
		if s.Reason != "" { // else a person wanted it back, which says nothing about others
			c.Lemnis.Together = p.Together(s.Current.Rollout.Service)
		}
		content, wanted = c, s.Stage == Undoing
	}
	if !wanted {
		return events.Fact{}, false
	}
	f, _ := s.fact(content)
	f.SubjectID, f.Phase, f.Timer = subject, events.Deploy, timer
	return f, true
}

// rollout is the one in flight, with the attempt that a result comes from.
func (s State) rollout(e events.Event) events.Rollout {
	r := s.Current.Rollout
	r.Attempt = e.Attempt
	return r
}

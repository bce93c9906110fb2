package rollout

import (
	"maps"
	"slices"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/canary"
	"github.com/lemnis/lemnis/services/deployer/gate"
)

// promotion is the kind of link by which a request names the fact that proves the artifact in the environment before.
const promotion = "PROMOTION"

// Evolve folds a fact. A fact's Time is when its cause was stored, as the runtime says; its own Sequence is not known yet.
func Evolve(s State, fact events.Event) State {
	switch c := fact.Content.(type) {
	case events.DeploymentRequested:
		return s.request(c, fact)
	case events.GateEvaluated:
		return s.gate(c)
	case events.ServicePublished:
		return s.published(c.Lemnis, fact.Time)
	case events.DriftFound:
		s.Drifts = append(slices.Clone(s.Drifts), Drift{c.Kind, c.Rollout, c.Found})
		return s
	case events.DriftMended:
		s.Drifts = slices.DeleteFunc(slices.Clone(s.Drifts), func(d Drift) bool { return d.is(c.Kind, c.Rollout) })
		if len(s.Drifts) == 0 {
			s.Drifts = nil
		}
		return s
	case events.DeploymentRetired:
		if s.Kept != nil && s.Kept.Rollout == c.Rollout.ID {
			s.Kept = nil
		}
		return s
	case events.ArtifactBarred:
		s.Barred = maps.Clone(s.Barred)
		if s.Barred == nil {
			s.Barred = map[string]string{}
		}
		s.Barred[c.Digest] = c.Reason
		s = s.barred(c)
		if s.TakenBack != nil && s.TakenBack.Artifact.Digest == c.Digest {
			s.TakenBack = nil
		}
		if q := s.Queued; q != nil && q.Rollout.Artifact.Digest == c.Digest {
			s = s.drop(q, because("it is barred", c.Reason))
			s.Queued = nil
		}
		if s.Stage == Undone && s.Current.Rollout.Artifact.Digest == c.Digest {
			s = s.end()
		}
		return s
	}
	if c, ok := fact.Content.(events.ServiceRolledback); ok && c.Lemnis.Rollout.Target == events.OutsideTarget && c.Lemnis.Rollout.Previous != nil &&
		s.Serving != nil && c.Lemnis.Rollout.ID == s.Serving.Rollout {
		return s.tookBack(c, fact.Time)
	}
	if c, ok := fact.Content.(events.ServiceRolledback); ok && s.Revert != nil && c.Lemnis.Rollout.ID == s.Revert.Rollout {
		s.Revert = nil
		return s
	}
	if c, ok := fact.Content.(events.DeploymentFailed); ok {
		dropped := func(d Dropped) bool { return d.Rollout.ID == c.Rollout.ID }
		if slices.ContainsFunc(s.Dropped, dropped) {
			if s.Dropped = slices.DeleteFunc(slices.Clone(s.Dropped), dropped); len(s.Dropped) == 0 {
				s.Dropped = nil
			}
			return s
		}
	}
	if id := rolloutOf(fact.Content); id == "" || !s.is(id) {
		return s // an outside tool's, or of a rollout that ended
	}
	return s.advance(fact)
}

func (s State) is(rollout string) bool { return rollout != "" && s.Current.Rollout.ID == rollout }

// advance folds a fact of the rollout in flight.
func (s State) advance(fact events.Event) State {
	switch c := fact.Content.(type) {
	case events.ApprovalRequested:
		s.Stage = Approving
	case events.ApprovalGiven:
		s.Approvals = append(slices.Clone(s.Approvals), c.By)
		if s.Held {
			s.Waived = c.By
		}
	case events.ApprovalRefused:
		s.Stage, s.Reason = Refused, because("refused by "+c.By, c.Reason)
	case events.DeploymentStarted:
		s.Stage, s.Current.Rollout = Starting, c.Rollout
		s.Baseline = c.Baseline
		s.Due, _ = time.Parse(time.RFC3339, c.Deadline) // zero without one
	case events.ServiceDeployed:
		s.Stage, s.URL = Placed, c.Lemnis.URL
	case events.ServiceUpgraded:
		s.Stage, s.URL = Placed, c.Lemnis.URL
	case events.TestSuiteRunFinished:
		s.Stage = Tested
		if c.Outcome != events.Success {
			s.Stage, s.Reason = Failing, c.Reason
		}
	case events.CanaryStepped:
		if s.Stage, s.Weight, s.Step = Observing, c.Weight, c.Step; c.Weight >= 1 {
			s.Stage = Shifting
		}
		if s.Exposed.IsZero() {
			s.Exposed = fact.Time
		}
	case events.CanaryObserved:
		span := max(c.Elapsed-s.Elapsed, 0)
		s.Tick, s.Elapsed = c.Tick, max(c.Elapsed, s.Elapsed)
		if s.Canary.Ticks == 0 && len(c.Past) > 0 {
			s.Canary = s.Canary.WithPast(c.Bounds, c.Past)
		}
		if s.Canary.Ticks == 0 && len(c.Minutes) > 0 {
			s.Canary = s.Canary.WithHistory(minutes(c.Minutes))
		}
		s.Canary = s.Canary.Observe(canary.Tick{
			CanaryRequests: c.Canary.Requests, CanaryErrors: c.Canary.Errors,
			BaselineRequests: c.Baseline.Requests, BaselineErrors: c.Baseline.Errors,
			Weight: c.Weight, Span: time.Duration(min(span, 3600) * float64(time.Second)),
			Bounds: c.Bounds, CanaryBuckets: c.Canary.Buckets, BaselineBuckets: c.Baseline.Buckets,
			Guards: guards(c.Guards),
		})
	case events.CanaryJudged:
		switch c.Verdict {
		case events.Promote:
			s.Stage = Promoted
		case events.Rollback:
			s.Stage, s.Reason = Undoing, c.Reason
		case events.Hold:
			s.Held, s.Overdue = true, s.Canary.Extended && !c.Extended
			if c.Extended {
				s.Canary = s.Canary.Extend()
			}
		}
	case events.ServiceRolledback:
		if s.Stage == Undoing && s.Reason != "" {
			s.Stage = Undone
			return s
		}
		if s.awaitsOutside() {
			s.Stage, s.Reason = Undone, c.Lemnis.Reason
			return s
		}
		return s.end()
	case events.DeploymentFailed:
		if c.Step == stepDeadline {
			s.Expired = &Expired{c.Rollout.ID, c.Rollout.Artifact, s.Due}
		}
		if s.Current.Rollout.Back { // the one before it may still run
			digest := s.Current.Rollout.Artifact.Digest
			s.Good = slices.DeleteFunc(slices.Clone(s.Good), func(g events.Instance) bool { return g.Artifact.Digest == digest })
			if _, ok := s.lastGood(); !ok {
				s.Revert = nil
			}
		}
		return s.end()
	case events.DeploymentAborted:
		if s.Current.Rollout.Back {
			s.Revert = nil
		}
		if s.Stage == Observing || s.Stage == Promoted {
			s.Stage, s.Reason = Undoing, "" // users have to be moved back; a person's wish bars nothing
			return s
		}
		return s.end()
	case events.DeploymentPaused:
		switch {
		case c.Incident != "":
			s.Halts = append(slices.Clone(s.Halts), c.Incident)
		case c.By == Halter && s.Stage == Shifting:
			s.Suspect = c.Reason
		default:
			s.Paused = true
		}
	case events.DeploymentResumed:
		if c.Incident == "" {
			s.Paused, s.Halts = false, nil
		} else {
			s.Halts = slices.DeleteFunc(slices.Clone(s.Halts), func(id string) bool { return id == c.Incident })
			if len(s.Halts) == 0 {
				s.Halts = nil
			}
		}
	}
	return s
}

func (s State) request(c events.DeploymentRequested, fact events.Event) State {
	r := Request{Rollout: c.Rollout, Since: fact.Time, Chain: fact.Chain}
	for _, l := range fact.Links {
		if l.Type == events.Relation && l.Kind == promotion {
			r.Promotion = gate.Promotion{Environment: l.Tags["environment"], Fact: l.Context}
		}
	}
	if !r.Rollout.Back { // what goes back is nothing newer
		s = s.unbarred(r.Rollout.Artifact.Digest, fact.CauseSequence)
	}
	list := make([]Request, 0, len(s.Known)+1)
	for _, k := range s.Known {
		if k.Rollout.Artifact.Digest != r.Rollout.Artifact.Digest {
			list = append(list, k)
		} else if r.Promotion == k.Promotion {
			r.Since = k.Since // asked for again by hand: what it proved, it proved then
		}
	}
	list = append(list, r)
	s.Known = list[max(0, len(list)-known):]
	const newer = "a newer request took its place"
	switch {
	case r.Rollout.Back && s.Stage == Idle: // what waits comes after it
		return s.begin(r)
	case r.Rollout.Back && s.hasNoUsers():
		if s.Queued != nil {
			s = s.drop(&s.Current, newer)
		} else {
			again := s.Current
			again.Rollout.Previous, again.Rollout.Target, again.Rollout.Process = nil, "", ""
			s.Queued = &again
		}
		return s.begin(r)
	}
	s = s.drop(s.Queued, newer)
	s.Queued = nil
	if s.Stage == Idle {
		return s.begin(r)
	}
	s.Queued = &r
	return s
}

// drop ends a request that waited; it is told next.
func (s State) drop(q *Request, reason string) State {
	if q != nil {
		s.Dropped = append(slices.Clone(s.Dropped), Dropped{*q, reason})
	}
	return s
}

func (s State) gate(c events.GateEvaluated) State {
	if q := s.Queued; s.Stage == Idle && q != nil && q.Rollout.ID == c.Rollout.ID {
		s.Queued = nil
		s = s.begin(*q)
	}
	if !s.is(c.Rollout.ID) {
		return s
	}
	switch {
	case c.Passed:
		s.Stage = Gated
	case gate.Waits(c):
		s.Stage = Soaking
	case gate.Looks(c):
		s.Stage = Verifying
	default:
		s.Stage, s.Reason = Closed, gate.Reason(c.Checks)
	}
	return s
}

// begin puts a request in flight.
func (s State) begin(r Request) State {
	s = s.end()
	s.Current, s.Stage = r, Requested
	return s
}

// end leaves what outlives a rollout.
func (s State) end() State {
	return State{Queued: s.Queued, Dropped: s.Dropped, Serving: s.Serving, Known: s.Known, Barred: s.Barred, Freed: s.Freed, Published: s.Published, Returned: s.Returned, Good: s.Good, Revert: s.Revert, Expired: s.Expired, Kept: s.Kept, Drifts: s.Drifts, TakenBack: s.TakenBack}
}

// rolloutOf is the id of the rollout that a fact belongs to.
func rolloutOf(content any) string {
	switch c := content.(type) {
	case events.GateEvaluated:
		return c.Rollout.ID
	case events.ApprovalRequested:
		return c.Rollout.ID
	case events.ApprovalGiven:
		return c.Rollout
	case events.ApprovalRefused:
		return c.Rollout
	case events.DeploymentStarted:
		return c.Rollout.ID
	case events.ServiceDeployed:
		return c.Lemnis.Rollout.ID
	case events.ServiceUpgraded:
		return c.Lemnis.Rollout.ID
	case events.ServiceRolledback:
		return c.Lemnis.Rollout.ID
	case events.ServicePublished:
		return c.Lemnis.Rollout.ID
	case events.TestSuiteRunFinished:
		return c.Lemnis.Rollout
	case events.CanaryStepped:
		return c.Rollout.ID
	case events.CanaryObserved:
		return c.Rollout
	case events.CanaryJudged:
		return c.Rollout.ID
	case events.DeploymentFailed:
		return c.Rollout.ID
	case events.DeploymentAborted:
		return c.Rollout.ID
	case events.DeploymentPaused:
		return c.Rollout.ID
	case events.DeploymentResumed:
		return c.Rollout.ID
	}
	return ""
}

// because joins what happened and why.
func because(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

package rollout

import (
	"fmt"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/canary"
)

const (
	// firstWeight is the share of users that a canary begins with, and the least that it ramps down to: below it a
	// service with little traffic would never learn anything.
	firstWeight = 0.1
	// worthAStep is the factor by which a weight has to change to be a step of its own.
	worthAStep = 1.5

	defaultObjective = 0.999
	defaultDeadline  = time.Hour
)

// policy of the canary test, from the project's configuration. What a canary has to show follows from what the service
// promises: with an objective of 99.9 % a rise by 1 % of failing requests must have had its chance to be seen
// before a deadline promotes, and an error rate of 0.05 % needs no comparison; with 99 % ten times as much.
func policy(p events.Project, environment events.Environment, service string) canary.Policy {
	objective := 0.0
	for _, o := range p.Objectives {
		if o.Service == service {
			objective = float64(o.Availability)
		}
	}
	out := canary.Policy{MinWeight: firstWeight, Deadline: defaultDeadline, ErrorsAlone: true}
	if c := environment.Canary; c != nil {
		if c.Tolerance != nil {
			out.ErrorsAlone, out.Tolerance = false, *c.Tolerance
		}
		if c.Deadline > 0 {
			out.Deadline = time.Duration(c.Deadline)
		}
		if c.Objective > 0 {
			objective = c.Objective
		}
	}
	if !(objective > 0 && objective < 1) {
		objective = defaultObjective
	}
	out.SLO = objective
	out.Regression = min(10*(1-objective), 0.5)
	out.Floor = (1 - objective) / 2
	return out
}

// judge is the canary's next step after an observation. A paused canary keeps its weight, and is still rolled back.
func (s State) judge(p events.Project, environment events.Environment, e events.Event) (events.Fact, bool) {
	switch e.Content.(type) {
	case events.CanaryObserved, events.DeploymentResumed, events.ApprovalGiven:
	default:
		return events.Fact{}, false
	}
	rules := policy(p, environment, s.Current.Rollout.Service)
	rules.Equal = s.Baseline != ""
	elapsed := e.Stored.Sub(s.Exposed)
	v := s.Canary.Verdict(rules, elapsed)
	judged := events.CanaryJudged{
		Rollout: s.Current.Rollout, Verdict: string(v.Outcome), Tick: s.Tick, Evidence: v.Evidence,
		Exposed: v.Exposed, Errors: s.Canary.Canary.Errors, Needed: v.Needed, Reason: v.Reason, Extended: v.Extended,
	}
	if len(v.Parts) > 1 {
		judged.Parts, judged.Course = explained(s.Canary, rules, v)
	}
	switch {
	case v.Outcome == canary.Rollback:
		return s.fact(judged)
	case s.paused():
		return events.Fact{}, false
	case s.Waived != "":
		judged.Verdict, judged.Extended, judged.Reason = events.Promote, false, fmt.Sprintf("%s lets it go on: %s", s.Waived, v.Reason)
		return s.fact(judged)
	case v.Outcome == canary.Promote:
		return s.fact(judged)
	case elapsed >= rules.Deadline && !s.Held, v.Extended && !s.Canary.Extended,
		s.Canary.Extended && elapsed >= canary.Deadlines*rules.Deadline && !s.Overdue:
		return s.fact(judged) // once each: people are told that there is too little traffic, that it gets more time, or that this is over
	}
	weight := canary.Ramp(s.Canary, rules)
	if s.Canary.Canary.Requests > 0 && (weight >= s.Weight*worthAStep || weight <= s.Weight/worthAStep || weight > s.Weight && weight == canary.MaxWeight) {
		return s.fact(events.CanaryStepped{Rollout: s.Current.Rollout, Step: s.Step + 1, Weight: weight,
			Reason: fmt.Sprintf("canary %d of %d requests failed: the risk allows %.0f %% of the users", s.Canary.Canary.Errors, s.Canary.Canary.Requests, 100*weight)})
	}
	return events.Fact{}, false
}

// minutes are what the canary test takes for them.
func minutes(counted []events.Counts) []canary.Minute {
	all := make([]canary.Minute, len(counted))
	for i, c := range counted {
		all[i] = canary.Minute{Requests: c.Requests, Errors: c.Errors}
	}
	return all
}

// guards are what the canary test takes for them.
func guards(counted []events.CanaryGuard) []canary.Guard {
	var all []canary.Guard
	for _, g := range counted {
		all = append(all, canary.Guard{Name: g.Name, Canary: canary.Minute{Requests: g.Canary.Requests, Errors: g.Canary.Errors},
			Baseline: canary.Minute{Requests: g.Baseline.Requests, Errors: g.Baseline.Errors}})
	}
	return all
}

// explained is what a verdict on more than errors rests on.
func explained(s canary.State, rules canary.Policy, v canary.Verdict) (parts []events.CanaryPart, course []events.CanaryPoint) {
	for _, p := range v.Parts {
		parts = append(parts, events.CanaryPart{Name: p.Name, Evidence: p.Evidence, Support: p.Support, Canary: p.Canary, Baseline: p.Baseline})
	}
	for _, p := range s.Evidence(rules) {
		course = append(course, events.CanaryPoint{Tick: p.Tick, Evidence: p.Evidence})
	}
	return parts, course
}

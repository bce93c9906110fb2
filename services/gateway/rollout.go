package gateway

import (
	"cmp"
	"fmt"

	"github.com/lemnis/lemnis/pkg/events"
)

// foldDeploy follows rollouts. A service in an environment is one place: one rollout has it, another may wait.
func (p *projectView) foldDeploy(e events.Event) {
	f := p.phase(events.Deploy)
	switch c := e.Content.(type) {
	case events.DeploymentRequested:
		f.request(e, c.Rollout)
	case events.GateEvaluated:
		state := "gate passed"
		if !c.Passed {
			state = "gate not passed"
		}
		f.roll(e, c.Rollout, state)
	case events.ApprovalRequested:
		f.roll(e, c.Rollout, "waiting for approval")
	case events.ApprovalGiven:
		if m := f.get("rollout", e.Key); m != nil {
			m.become("approved by "+short(cmp.Or(c.By, e.Principal)), e.Stored)
		}
	case events.ApprovalRefused:
		if m := f.get("rollout", e.Key); m != nil {
			m.become("refused by "+short(cmp.Or(c.By, e.Principal)), e.Stored)
		}
	case events.DeploymentStarted:
		state := "starting"
		if c.Asked != "" {
			state = "asked of " + short(c.Asked)
		}
		f.roll(e, c.Rollout, state)
	case events.ServiceDeployed:
		f.roll(e, c.Lemnis.Rollout, "testing")
	case events.ServiceUpgraded:
		f.roll(e, c.Lemnis.Rollout, "testing")
	case events.CanaryStepped:
		if c.Weight < 1 {
			f.roll(e, c.Rollout, fmt.Sprintf("serves %.3g %% of users", 100*c.Weight))
		} else {
			f.roll(e, c.Rollout, "serves all users")
		}
	case events.CanaryJudged:
		state := "canary passed"
		if c.Verdict == events.Rollback {
			state = "rolling back"
		}
		f.roll(e, c.Rollout, state)
	case events.DeploymentPaused:
		f.roll(e, c.Rollout, "paused")
	case events.DeploymentResumed:
		f.roll(e, c.Rollout, "resumed")
	case events.ServicePublished:
		f.endRollout(e, c.Lemnis.Rollout.ID)
	case events.ServiceRolledback:
		f.endRollout(e, c.Lemnis.Rollout.ID)
	case events.DeploymentFailed:
		f.endRollout(e, c.Rollout.ID)
	case events.DeploymentAborted:
		f.endRollout(e, c.Rollout.ID)
	}
}

func rolloutTitle(r events.Rollout) string {
	what := cmp.Or(r.Artifact.Title, r.Service)
	if r.Environment == "" {
		return what
	}
	return what + " to " + r.Environment
}

// request lets a rollout wait while another has the place; the newest wins.
func (f *phaseView) request(e events.Event, r events.Rollout) {
	if m := f.get("rollout", e.Key); m != nil && m.Rollout != r.ID {
		m.Queued = &moving{Kind: "rollout", Key: short(e.Key), Title: short(rolloutTitle(r)), State: "requested", Chain: e.Chain, Since: e.Stored, Rollout: r.ID}
		return
	}
	f.roll(e, r, "requested")
}

// roll moves the rollout that has the place now.
func (f *phaseView) roll(e events.Event, r events.Rollout, state string) {
	m := f.move(e, "rollout", e.Key, rolloutTitle(r), state)
	if r.ID == "" {
		return
	}
	m.Rollout = r.ID
	if m.Queued != nil && m.Queued.Rollout == r.ID {
		m.Queued = nil
	}
}

// endRollout frees the place when that rollout has it, for the one that waits.
func (f *phaseView) endRollout(e events.Event, id string) {
	m := f.get("rollout", e.Key)
	switch {
	case m == nil:
	case m.Queued != nil && m.Queued.Rollout == id:
		m.Queued = nil
	case id != "" && m.Rollout != "" && m.Rollout != id:
	case m.Queued != nil:
		f.Moving["rollout/"+e.Key] = m.Queued
	default:
		f.end("rollout", e.Key)
	}
}

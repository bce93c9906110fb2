package chaos

import (
	"encoding/json"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// rollout is what was seen of one.
type rollout struct {
	open      bool // its gate was
	needed    int  // approvals
	approvals int
	started   bool
	placed    bool
	tested    bool
}

func (c *checker) rollout(project, id string) *rollout {
	at := project + "\x00" + id
	if c.rollouts[at] == nil {
		c.rollouts[at] = &rollout{}
	}
	return c.rollouts[at]
}

// proof checks that what came before a fact allows it.
func (c *checker) proof(name string, e *events.Event) {
	at := func(s string) string { return e.Project + "\x00" + s }
	switch f := e.Content.(type) {
	case events.PipelineRunFinished:
		if f.Outcome == events.Success {
			c.green[at(f.Lemnis.Merge.Commit)] = true
		}
	case events.QueueTested:
		if !c.green[at(f.Merge.Commit)] {
			c.find(Unproven, "%s: no pipeline run found %s good", name, f.Merge.Commit)
		}
		c.tested[at(f.Merge.Commit)] = true
	case events.ChangeMerged:
		if !c.tested[at(f.Lemnis.Commit)] {
			c.find(Unproven, "%s: %s was merged untested", name, f.Lemnis.Commit)
		}
		c.merged[at(f.Lemnis.Commit)] = true
	case events.BuildFinished:
		if f.Lemnis.Outcome != events.Success {
			return
		}
		if m := f.Lemnis.Merge; m.Change != "" && !c.merged[at(m.Commit)] {
			c.find(Unproven, "%s: %s is no commit of the master copy", name, m.Commit)
		}
		c.built[at(f.Lemnis.Digest)] = true
	case events.ArtifactPackaged:
		if !c.built[at(f.Lemnis.Digest)] {
			c.find(Unproven, "%s: no build made %s", name, f.Lemnis.Digest)
		}
	case events.ArtifactPublished:
		if !c.built[at(f.Lemnis.Digest)] {
			c.find(Unproven, "%s: no build made %s", name, f.Lemnis.Digest)
		}
	default:
		c.deployment(name, e)
	}
}

// deployment checks the order of a rollout's facts.
func (c *checker) deployment(name string, e *events.Event) {
	switch f := e.Content.(type) {
	case events.GateEvaluated:
		r := c.rollout(e.Project, f.Rollout.ID)
		r.open = f.Passed
		for _, check := range f.Checks {
			if f.Passed && !check.Passed {
				c.find(Ungated, "%s: its gate is open, and %s failed", name, check.Name)
			}
		}
	case events.ApprovalRequested:
		c.rollout(e.Project, f.Rollout.ID).needed = f.Needed
	case events.ApprovalGiven:
		c.rollout(e.Project, f.Rollout).approvals++
	case events.DeploymentStarted:
		r := c.rollout(e.Project, f.Rollout.ID)
		switch {
		case !r.open:
			c.find(Ungated, "%s: the gate of %s is not open", name, f.Rollout.ID)
		case r.approvals < r.needed:
			c.find(Ungated, "%s: %s has %d of %d approvals", name, f.Rollout.ID, r.approvals, r.needed)
		case f.Rollout.Environment == "prod" && r.needed == 0:
			c.find(Ungated, "%s: nobody was asked about %s", name, f.Rollout.ID)
		case r.started:
			c.find(Twice, "%s: %s was started before", name, f.Rollout.ID)
		}
		r.started = true
	case events.ServiceDeployed:
		c.placed(name, e, f.Lemnis.Rollout.ID)
	case events.ServiceUpgraded:
		c.placed(name, e, f.Lemnis.Rollout.ID)
	case events.TestSuiteRunFinished:
		r := c.rollout(e.Project, f.Lemnis.Rollout)
		r.tested = r.placed && f.Outcome == events.Success
	case events.CanaryStepped:
		if !c.rollout(e.Project, f.Rollout.ID).tested {
			c.find(Ungated, "%s: %s is given users, and did not pass its tests", name, f.Rollout.ID)
		}
	case events.ServicePublished:
		if !c.rollout(e.Project, f.Lemnis.Rollout.ID).tested {
			c.find(Ungated, "%s: %s serves users, and did not pass its tests", name, f.Lemnis.Rollout.ID)
		}
	}
}

func (c *checker) placed(name string, e *events.Event, id string) {
	r := c.rollout(e.Project, id)
	if !r.started {
		c.find(Ungated, "%s: %s was not started", name, id)
	}
	r.placed = true
}

// order holds a fact to the order of time: it is not said to have happened before its cause was stored, nor after it was
// stored itself.
func (c *checker) order(name string, e, cause *events.Event) {
	if e.Stored.Before(cause.Stored) {
		c.find(Unordered, "%s was stored %s before its cause", name, cause.Stored.Sub(e.Stored))
	}
	if e.Time.Before(cause.Stored.Truncate(time.Microsecond)) || e.Time.After(e.Stored) {
		c.find(Unordered, "%s is said to have happened at %s; its cause was stored at %s and it at %s", name,
			e.Time.Format(time.RFC3339Nano), cause.Stored.Format(time.RFC3339Nano), e.Stored.Format(time.RFC3339Nano))
	}
	if !e.Deadline.IsZero() && e.Deadline.Before(cause.Stored) {
		c.find(Unordered, "%s sets a deadline before its cause", name)
	}
}

// figures are the members of an event's content that measure time. A median of nothing is -1, by its definition.
var figures = map[string]float64{"seconds": 0, "elapsed": 0, "leadTimes": 0, "recoveryTimes": 0, "leadTime": -1, "recoveryTime": -1, "perDay": 0, "p50": 0, "p99": 0}

// durations holds every figure of an event that measures time to not being negative.
func (c *checker) durations(e *events.Event) {
	body, err := e.AppendBody(nil)
	if err != nil {
		c.find(Stray, "%d can not be written again: %v", e.Sequence, err)
		return
	}
	var content any
	if err := json.Unmarshal(body, &content); err != nil {
		c.find(Stray, "%d: %v", e.Sequence, err)
		return
	}
	c.negative(e, "", content)
}

func (c *checker) negative(e *events.Event, member string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			c.negative(e, name, inner)
		}
	case []any:
		for _, inner := range v {
			c.negative(e, member, inner)
		}
	case float64:
		if least, measures := figures[member]; measures && v < 0 && v != least {
			c.find(Unordered, "%d, %s: %s is %g", e.Sequence, e.Type.Short(), member, v)
		}
	}
}

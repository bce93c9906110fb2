package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Drift is one thing that runs otherwise than it has to.
type Drift struct {
	Kind  string `json:"kind"`
	Runs  string `json:"runs,omitempty"` // rollout whose process it is about
	Found string `json:"found"`
}

func (d Drift) is(kind, runs string) bool { return d.Kind == kind && d.Runs == runs }

// Drifted reports whether it was said, and not that it is mended.
func (s State) Drifted(kind, runs string) bool {
	return slices.ContainsFunc(s.Drifts, func(d Drift) bool { return d.is(kind, runs) })
}

// drift takes what the site found: each difference is said once, until it is mended.
func (s State) drift(e events.Event) (events.Fact, bool) {
	environment, service := SplitKey(e.Key)
	switch c := e.Content.(type) {
	case events.DriftFound:
		c.Environment, c.Service = environment, service
		return events.Fact{Content: c, Phase: events.Deploy}, !s.Drifted(c.Kind, c.Rollout)
	case events.DriftMended:
		c.Environment, c.Service = environment, service
		return events.Fact{Content: c, Phase: events.Deploy}, s.Drifted(c.Kind, c.Rollout)
	}
	return events.Fact{}, false
}

// unsteady is what follows when a process ends again and again, or takes more than it may: what is on its way to users goes
// back, and so does what serves all of them while it is on trial.
func (s State) unsteady(policy events.Environment, at time.Time) (events.Fact, bool) {
	for _, d := range s.Drifts {
		if d.Kind != events.DriftFlapping && d.Kind != events.DriftLimit {
			continue
		}
		why := because("it does not stay up", d.Found)
		testing, watched := s.Stage == Placed || s.Stage == Tested, s.Stage == Observing || s.Stage == Promoted
		switch r := s.Current.Rollout; {
		case r.Target == "" && d.Runs == r.Runs() && testing:
			return s.fail("canary", why)
		case r.Target == "" && d.Runs == r.Runs() && watched:
			return s.goBack(why)
		case s.Baseline != "" && d.Runs == s.Baseline && (testing || watched):
			return s.fail("canary", because("what it is compared with does not stay up", d.Found))
		case s.Serving != nil && s.Serving.Target == "" && d.Runs == s.Serving.Runs() && s.onTrial(policy, at):
			if f, ok := s.barServing(why); ok {
				return f, ok
			}
		}
	}
	return events.Fact{}, false
}

// onTrial reports whether what serves all users has done so for so short a time that it is held to be why it does not stay up. What
// users were taken back to is not: it served them before.
func (s State) onTrial(policy events.Environment, at time.Time) bool {
	return !s.Returned && at.Sub(s.Published) < policy.OnTrial()
}

// deserted reports whether the stream says that what serves all users does not run, and could not be started again.
func (s State) deserted() bool {
	return s.Serving != nil && s.Serving.Target == "" && s.Drifted(events.DriftLost, s.Serving.Runs())
}

// deserts moves all users to the version that runs.
func (s State) deserts() (events.Fact, bool) {
	return s.fact(events.CanaryStepped{Rollout: s.Current.Rollout, Step: s.Step + 1, Weight: 1,
		Reason: fmt.Sprintf("all users at once: %s, which served them, does not run and there is nothing to compare with", s.Serving.Rollout)})
}

package rollout

import (
	"fmt"
	"slices"

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

// flaps ends a rollout whose process ends again and again, or takes more than it may, before it has all users.
func (s State) flaps() (events.Fact, bool) {
	switch s.Stage {
	case Placed, Tested, Observing, Promoted:
	default:
		return events.Fact{}, false
	}
	for _, d := range s.Drifts {
		ends := d.Kind == events.DriftFlapping || d.Kind == events.DriftLimit
		if ends && d.Runs == s.Current.Rollout.Runs() && s.Current.Rollout.Target == "" {
			return s.fail("canary", fmt.Sprintf("it does not stay up: %s", d.Found))
		}
	}
	return events.Fact{}, false
}

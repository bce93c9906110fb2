package rollout

import (
	"fmt"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Kept is what runs on without users after a switch, until a moment.
type Kept struct {
	events.Instance
	Until time.Time `json:"until"`
}

// keptBy reads what a published version keeps.
func keptBy(d events.ServiceDetail) *Kept {
	until, err := time.Parse(time.RFC3339, d.Until)
	if d.Kept == nil || err != nil {
		return nil
	}
	return &Kept{*d.Kept, until}
}

// keeps reports whether the rollout in flight keeps what it replaces.
func (s State) keeps() bool {
	r := s.Current.Rollout
	return r.Strategy == events.BlueGreenStrategy && r.Target == "" && r.Previous != nil && r.Previous.Target == "" && !r.Back
}

// Spare is the instance that has to run without users, to go back to at once; ok is false when none has to.
func (s State) Spare() (events.Instance, bool) {
	switch {
	case s.Stage == Shifting && s.keeps():
		return *s.Current.Rollout.Previous, true
	case s.Kept != nil:
		return s.Kept.Instance, true
	}
	return events.Instance{}, false
}

// FreshBaseline is the instance that has to serve as many users as the canary, to be compared with it; ok is false when none
// has to.
func (s State) FreshBaseline() (i events.Instance, ok bool) {
	_, weight, ok := s.Candidate()
	if !ok || weight >= 1 || s.Baseline == "" || s.Current.Rollout.Previous == nil {
		return events.Instance{}, false
	}
	return events.Instance{Rollout: s.Baseline, Artifact: s.Current.Rollout.Previous.Artifact}, true
}

// outlived reports whether what is kept need be kept no longer. What is being gone back to is.
func (s State) outlived(now time.Time) bool {
	return s.Kept != nil && !now.Before(s.Kept.Until) && s.Current.Rollout.Process != s.Kept.Runs()
}

// retire ends what is kept; the event is the place's own.
func (s State) retire(e events.Event) (events.Fact, bool) {
	environment, service := SplitKey(e.Key)
	r := events.Rollout{ID: s.Kept.Rollout, Environment: environment, Service: service, Artifact: s.Kept.Artifact, Process: s.Kept.Process}
	reason := fmt.Sprintf("it was kept until %s", s.Kept.Until.UTC().Format(time.RFC3339))
	if s.Serving != nil {
		reason += fmt.Sprintf(", after %s came", s.Serving.Rollout)
	}
	return s.fact(events.DeploymentRetired{Rollout: r, Reason: reason})
}

// takeBack asks for what is kept: a person wants it, and it bars nothing.
func (s State) takeBack(key string, e events.Event, c events.DeploymentAborted) (events.Fact, bool) {
	if id := c.Rollout.ID; id != "" && id != s.Serving.Rollout {
		return events.Refuse(e, fmt.Sprintf("what serves all users is %s, not %s", s.Serving.Rollout, id))
	}
	if why := s.Barred[s.Kept.Artifact.Digest]; why != "" {
		return events.Refuse(e, fmt.Sprintf("what is kept, %s, is barred: %s", s.Kept.Artifact.Digest, why))
	}
	environment, service := SplitKey(key)
	return events.Fact{Content: events.DeploymentRequested{
		Rollout: events.Rollout{ID: fmt.Sprintf("%s@%d", key, e.Sequence), Environment: environment, Service: service,
			Artifact: s.Kept.Artifact, Strategy: events.AllAtOnce, Back: true},
		Reason: because("taken back by "+e.Actor(c.By), c.Reason),
	}}, true
}

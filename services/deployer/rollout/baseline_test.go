package rollout_test

import (
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

// The version of before is started once more with the canary, for as long as the canary is judged.
func TestAFreshBaseline(t *testing.T) {
	prod := canaryProd(time.Hour, 0.95)
	prod[0].Canary.Baseline = events.FreshBaseline
	s := newShop(t, prod...)
	fresh := func() string {
		i, ok := s.State("prod/api").FreshBaseline()
		if ok != (i.Rollout != "") || ok && i.Artifact.Digest != artifact(1).Digest {
			t.Errorf("%+v, %v", i, ok)
		}
		return i.Rollout
	}
	started := func() events.DeploymentStarted {
		var last events.DeploymentStarted
		for _, f := range s.Facts() {
			if c, ok := f.Content.(events.DeploymentStarted); ok {
				last = c
			}
		}
		return last
	}
	s.publish(1)
	if c := started(); c.Baseline != "" || fresh() != "" {
		t.Errorf("the first one is compared with %q", c.Baseline)
	}
	s.publish(2)
	c := started()
	if c.Baseline != c.Rollout.ID+"/baseline" || fresh() != c.Baseline {
		t.Errorf("%q, and %q runs", c.Baseline, fresh())
	}
	for range 60 {
		if s.State("prod/api").Stage != rollout.Observing {
			break
		}
		if fresh() == "" {
			t.Fatal("it is gone while the canary is judged")
		}
		s.observe("prod/api", 500, 0, 500)
	}
	if got := s.State("prod/api"); got.Serving.Artifact.Digest != artifact(2).Digest || fresh() != "" {
		t.Errorf("%s, and %q runs", s.story("prod/api"), fresh())
	}
	s.publish(3)
	s.observe("prod/api", 50, 25, 50)
	s.observe("prod/api", 50, 25, 50)
	if got := s.State("prod/api"); got.Stage != rollout.Idle || fresh() != "" {
		t.Errorf("%s, and %q runs", s.story("prod/api"), fresh())
	}
}

package rollout_test

import (
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

func (s *shop) found(key string, content any) {
	s.Put(events.Result, key, "", content)
	s.settle()
}

func TestDriftIsSaidOnceUntilItIsMended(t *testing.T) {
	s := newShop(t, events.Environment{Name: "prod"})
	s.publish(1)
	gone := events.DriftFound{Kind: events.DriftGone, Rollout: "r1", Expected: "r1 runs", Found: "it does not run"}
	other := events.DriftFound{Kind: events.DriftUnknown, Rollout: "r9", Expected: "nothing else", Found: "r9 runs"}
	mended := events.DriftMended{Kind: events.DriftGone, Rollout: "r1"}
	s.found("prod/api", mended) // of nothing
	for _, c := range []any{gone, gone, other, mended, mended, gone} {
		s.found("prod/api", c)
	}
	if got := s.story("prod/api"); !strings.HasSuffix(got, "service.published, drift.found, drift.found, drift.mended, drift.found") {
		t.Error(got)
	}
	last := s.Facts()[len(s.Facts())-1].Content.(events.DriftFound)
	if last.Environment != "prod" || last.Service != "api" {
		t.Errorf("%+v", last)
	}
	s.publish(2) // does not make it forgotten
	if !s.State("prod/api").Drifted(events.DriftGone, "r1") {
		t.Error("forgotten")
	}
}

func TestACanaryThatTakesTooMuchIsTakenBack(t *testing.T) {
	s := newShop(t)
	s.publish(1)
	s.publish(2)
	s.found("prod/api", events.DriftFound{Kind: events.DriftLimit, Rollout: s.State("prod/api").Current.Rollout.ID, Found: "too much memory"})
	if got := s.story("prod/api"); !strings.HasSuffix(got, "drift.found, deployment.failed canary") {
		t.Error(got)
	}
}

func TestACanaryThatFlapsIsTakenBack(t *testing.T) {
	s := newShop(t)
	s.publish(1)
	s.publish(2)
	r := s.State("prod/api").Current.Rollout
	s.found("prod/api", events.DriftFound{Kind: events.DriftFlapping, Rollout: s.State("prod/api").Serving.Rollout, Found: "exit status 1"})
	if strings.Contains(s.story("prod/api"), "failed") {
		t.Fatal("the version of before flaps, and the canary is ended")
	}
	s.found("prod/api", events.DriftFound{Kind: events.DriftFlapping, Rollout: r.ID, Found: "exit status 2"})
	if got := s.story("prod/api"); !strings.HasSuffix(got, "drift.found, drift.found, deployment.failed canary") {
		t.Error(got)
	}
	facts := s.Facts()
	if c := facts[len(facts)-1].Content.(events.DeploymentFailed); c.Reason != "it does not stay up: exit status 2" {
		t.Error(c.Reason)
	}
	if _, _, ok := s.State("prod/api").Candidate(); ok {
		t.Error("it still has users")
	}
}

package rollout_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/rollout"
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
	if got := s.story("prod/api"); !strings.HasSuffix(got, "drift.found, canary.judged rollback, service.rolledback, artifact.barred") {
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
	if got := s.story("prod/api"); !strings.HasSuffix(got, "drift.found, drift.found, canary.judged rollback, service.rolledback, artifact.barred") {
		t.Error(got)
	}
	for _, f := range s.Facts() {
		if c, ok := f.Content.(events.CanaryJudged); ok && c.Reason != "it does not stay up: exit status 2" {
			t.Error(c.Reason)
		}
	}
	if _, _, ok := s.State("prod/api").Candidate(); ok {
		t.Error("it still has users")
	}
}

// What does not stay up soon after all users got it goes back, and is barred; later it is told, and stays. What users were taken
// back to has served them before: it stays too.
func TestWhatServesAndDoesNotStayUp(t *testing.T) {
	never := events.Duration(0)
	for name, test := range map[string]struct {
		after time.Duration
		kind  string
		trial *events.Duration
		back  bool
	}{
		"flaps at once":         {time.Minute, events.DriftFlapping, nil, true},
		"takes too much":        {time.Minute, events.DriftLimit, nil, true},
		"flaps long after":      {2 * time.Hour, events.DriftFlapping, nil, false},
		"is not on trial":       {time.Minute, events.DriftFlapping, &never, false},
		"another kind of drift": {time.Minute, events.DriftGone, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTown(t, events.Environment{Name: "prod", Trial: test.trial})
			s.publish(1)
			s.publish(2)
			s.time = now.Add(test.after)
			bad := s.State("prod/api").Serving.Rollout
			s.found("prod/api", events.DriftFound{Kind: test.kind, Rollout: bad, Found: "exit status 1"})
			want := artifact(2)
			if test.back {
				want = artifact(1)
			}
			got := s.State("prod/api")
			if got.Serving.Artifact.Digest != want.Digest || got.Stage != rollout.Idle || (got.Barred[artifact(2).Digest] != "") != test.back {
				t.Fatalf("%s serves after %s", got.Serving.Artifact.ID, s.story("prod/api"))
			}
			if !test.back {
				return
			}
			story := s.story("prod/api")
			s.found("prod/api", events.DriftFound{Kind: events.DriftFlapping, Rollout: got.Serving.Runs(), Found: "exit status 1"})
			s.wantStory("prod/api", story+", drift.found")
		})
	}
}

// A canary whose fresh baseline does not stay up has nothing to be compared with: it would be promoted by the other's errors.
func TestABaselineThatFlaps(t *testing.T) {
	environments := canaryProd(time.Hour, 0.95)
	environments[len(environments)-1].Canary.Baseline = events.FreshBaseline
	s := newTown(t, environments...)
	s.publish(1)
	s.publish(2)
	s.found("prod/api", events.DriftFound{Kind: events.DriftFlapping, Rollout: s.State("prod/api").Baseline, Found: "exit status 1"})
	if got := s.story("prod/api"); !strings.HasSuffix(got, "canary.stepped 0.1, drift.found, deployment.failed canary") {
		t.Error(got)
	}
	if got := s.State("prod/api"); got.Stage != rollout.Idle || got.Barred[artifact(2).Digest] != "" {
		t.Errorf("it is not its fault: %+v", got)
	}
}

// Where what serves does not run and can not be started again, a canary has nothing to be compared with, and nobody else to serve.
func TestWhatServesIsGone(t *testing.T) {
	gone := func(s *shop) {
		runs := s.State("prod/api").Serving.Runs()
		s.found("prod/api", events.DriftFound{Kind: events.DriftGone, Rollout: runs, Found: "it does not run"})
		if got := s.story("prod/api"); !strings.HasSuffix(got, "drift.found") {
			t.Fatalf("users are moved before it was tried to start it again: %s", got)
		}
		s.found("prod/api", events.DriftFound{Kind: events.DriftLost, Rollout: runs, Found: "it can not be started again"})
	}
	for name, before := range map[string]bool{"before the canary": true, "during it": false} {
		t.Run(name, func(t *testing.T) {
			s := newTown(t, canaryProd(time.Hour, 0.95)...)
			s.publish(1)
			want := "drift.found, drift.found, deployment.requested, gate.evaluated, deployment.started, service.upgraded, testsuiterun.finished, canary.stepped 1, service.published"
			if before {
				gone(s)
				s.publish(2)
			} else {
				s.publish(2)
				gone(s)
				want = "canary.stepped 0.1, drift.found, drift.found, canary.stepped 1, service.published"
			}
			if got := s.story("prod/api"); !strings.HasSuffix(got, want) {
				t.Error(got)
			}
		})
	}
}

// What all users shall get and does not start ends: they are served by what served them.
func TestWhatIsPromotedDoesNotStart(t *testing.T) {
	s := newTown(t, events.Environment{Name: "prod"})
	s.publish(1)
	s.lazy = true
	s.publish(2)
	r := s.State("prod/api").Current.Rollout
	for _, c := range []any{events.ServiceUpgraded{Lemnis: events.ServiceDetail{Rollout: r}}, events.TestSuiteRunFinished{Outcome: events.Success, Lemnis: events.TestSuiteRunDetail{Rollout: r.ID}},
		events.DeploymentFailed{Rollout: r, Step: "canary", Reason: "no such file"}} {
		s.Report(string(events.TypeOf(c)), events.Event{Key: "prod/api", Phase: events.Deploy, Content: c})
	}
	if got := s.story("prod/api"); !strings.HasSuffix(got, "canary.stepped 1, deployment.failed canary") || s.State("prod/api").Serving.Artifact.Digest != artifact(1).Digest {
		t.Error(got)
	}
}

package rollout_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

func blueGreen() events.Environment {
	return events.Environment{Name: "prod", Target: "process", Strategy: events.BlueGreenStrategy, Blue: &events.BlueGreen{Keep: events.Duration(time.Minute)}}
}

// fire is what the timer of a fact reports.
func (s *shop) fire(key string, after time.Duration) {
	s.time = s.time.Add(after)
	s.Put(events.Result, key, "", events.DeadlineReached{Aggregate: rollout.Kind, Key: key})
	s.settle()
}

func kept(s *shop) string {
	i, _ := s.State("prod/api").Spare()
	return i.Rollout
}

func TestBlueGreenKeepsTheVersionOfBefore(t *testing.T) {
	s := newShop(t, blueGreen())
	s.publish(1)
	if kept(s) != "" {
		t.Error("the first deployment keeps something")
	}
	one := s.State("prod/api").Serving.Rollout
	s.publish(2)
	s.wantStory("prod/api", first+", "+upgrade+"1, service.published")
	facts := s.Facts()
	fact := facts[len(facts)-1]
	c := fact.Content.(events.ServicePublished).Lemnis
	if kept(s) != one || c.Kept == nil || c.Kept.Rollout != one || c.Until != now.Add(time.Minute).Format(time.RFC3339) || !fact.Deadline.Equal(now.Add(time.Minute)) {
		t.Errorf("keeps %q; the fact: %+v until %s, timer %s", kept(s), c.Kept, c.Until, fact.Deadline)
	}
	s.fire("prod/api", time.Minute-time.Second) // of something else
	if kept(s) != one {
		t.Error("it is gone too early")
	}
	s.fire("prod/api", time.Second)
	s.fire("prod/api", 0)
	s.wantStory("prod/api", first+", "+upgrade+"1, service.published, deployment.retired")
	last := s.Facts()[len(s.Facts())-1].Content.(events.DeploymentRetired)
	if kept(s) != "" || last.Rollout.ID != one || last.Rollout.Environment != "prod" || last.Rollout.Service != "api" {
		t.Errorf("%+v", last)
	}
}

func TestGoingBackTakesTheProcessThatWasKept(t *testing.T) {
	for name, goBack := range map[string]func(s *shop){
		"an incident": func(s *shop) {
			s.detected("i1", "api", events.IncidentDetail{Rollout: s.State("prod/api").Serving.Rollout})
		},
		"a person": func(s *shop) {
			s.refused("bo", events.DeploymentAborted{Rollout: events.Rollout{ID: "another", Environment: "prod", Service: "api"}}, "not another")
			s.claim("bo", events.DeploymentAborted{Rollout: events.Rollout{Environment: "prod", Service: "api"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, blueGreen())
			s.publish(1)
			one := s.State("prod/api").Serving.Rollout
			s.publish(2)
			goBack(s)
			s.settle()
			state := s.State("prod/api")
			if state.Serving.Artifact.Digest != artifact(1).Digest || state.Serving.Process != one || state.Serving.Runs() != one || state.Stage != rollout.Idle {
				t.Errorf("%+v after %s", state.Serving, s.story("prod/api"))
			}
			if state.Kept != nil {
				t.Error("what is taken back is kept")
			}
			story := s.story("prod/api")
			s.fire("prod/api", time.Hour)
			s.wantStory("prod/api", story)
			// The next one replaces the process, whoever started it.
			s.publish(3)
			if kept(s) == "" || s.State("prod/api").Kept.Runs() != one {
				t.Errorf("%+v", s.State("prod/api").Kept)
			}
		})
	}
}

// What is being gone back to is not ended by its deadline, but after that.
func TestAKeptVersionOutlivesItsDeadlineInUse(t *testing.T) {
	s := newShop(t, blueGreen())
	s.publish(1)
	s.publish(2)
	one := kept(s)
	s.lazy = true
	s.claim("bo", events.DeploymentAborted{Rollout: events.Rollout{Environment: "prod", Service: "api"}})
	if c, _, ok := s.State("prod/api").Candidate(); !ok || c.Runs() != one {
		t.Fatalf("%+v: %s", c, s.story("prod/api"))
	}
	s.fire("prod/api", time.Minute)
	if strings.Contains(s.story("prod/api"), "retired") {
		t.Fatal(s.story("prod/api"))
	}
	s.Put(events.Result, "prod/api", "", events.DeploymentFailed{Rollout: s.State("prod/api").Current.Rollout, Step: "start", Reason: "no"})
	if got := s.story("prod/api"); !strings.HasSuffix(got, "deployment.failed start, deployment.retired") || kept(s) != "" {
		t.Error(got)
	}
}

// A deadline that ends what is kept may be the one that a rollout waits for as well.
func TestADeadlineForTwo(t *testing.T) {
	prod := blueGreen()
	prod.Gate = events.Gate{Soak: events.Duration(time.Minute)}
	s := newShop(t, events.Environment{Name: "test"}, prod)
	s.publish(1)
	s.fire("prod/api", time.Minute)
	s.publish(2)
	s.fire("prod/api", time.Minute)
	s.publish(3) // soaks for as long as the version of before is kept
	s.fire("prod/api", time.Minute)
	if got := s.story("prod/api"); !strings.HasSuffix(got, "deployment.retired, gate.evaluated, deployment.started, service.upgraded, testsuiterun.finished, canary.stepped 1, service.published") {
		t.Error(got)
	}
}

func TestNobodyIsTakenBackToWhatIsBarred(t *testing.T) {
	s := newShop(t, blueGreen(), events.Environment{Name: "far"})
	s.publish(1)
	s.publish(2)
	state := rollout.Evolve(s.State("prod/api"), events.Event{Content: events.ArtifactBarred{Digest: artifact(1).Digest, Reason: "bad in far"}})
	f, _ := rollout.Decide("prod/api", state, s.Project, events.Event{Kind: events.Claim, Phase: events.Deploy, Principal: "bo",
		Content: events.DeploymentAborted{Rollout: events.Rollout{Environment: "prod", Service: "api"}}})
	if c, ok := f.Content.(events.ClaimRefused); !ok || !strings.Contains(c.Reason, "is barred: bad in far") {
		t.Errorf("%+v", f.Content)
	}
}

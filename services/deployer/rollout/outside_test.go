package rollout_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

func outside(name string) events.Environment {
	return events.Environment{Name: name, Target: events.OutsideTarget, Outside: &events.Outside{Owner: "argocd", Deadline: events.Duration(10 * time.Minute)}}
}

func deployed(rolloutID string, a events.ArtifactDetail) events.ServiceDeployed {
	return events.ServiceDeployed{Environment: events.Reference{ID: "prod"}, ArtifactID: a.ID, Lemnis: events.ServiceDetail{
		URL: "https://shop.example.org", Rollout: events.Rollout{ID: rolloutID, Environment: "prod", Service: "api", Artifact: a},
	}}
}

func asked(t *testing.T, s *shop) (events.Event, events.DeploymentStarted) {
	t.Helper()
	facts := s.Facts()
	last := facts[len(facts)-1]
	c, ok := last.Content.(events.DeploymentStarted)
	if !ok {
		t.Fatalf("the last fact is %s", last.Type.Short())
	}
	return last, c
}

func TestAnotherToolIsAskedToDeploy(t *testing.T) {
	s := newShop(t, outside("prod"), outside("far"))
	s.publish(1)
	fact, c := asked(t, s)
	if c.Asked != "argocd" || c.Deadline != now.Add(10*time.Minute).Format(time.RFC3339) || !fact.Deadline.Equal(now.Add(10*time.Minute)) {
		t.Errorf("asked %q until %s, timer %s", c.Asked, c.Deadline, fact.Deadline)
	}
	if c.Rollout.Artifact.Digest != artifact(1).Digest || c.Rollout.Target != events.OutsideTarget {
		t.Errorf("%+v", c.Rollout)
	}
	if _, _, runs := s.State("prod/api").Candidate(); runs {
		t.Error("it would be run as a process")
	}
	s.refused("argocd", deployed("", artifact(2)), artifact(1).Digest+" was asked for")
	s.refused("argocd", deployed("another", artifact(1)), "not another")
	s.refused("argocd", deployed("", events.ArtifactDetail{}), "which artifact")
	s.refused("mallory", deployed("", artifact(1)), `"mallory" does not deploy to prod`)
	s.refused("mallory", events.DeploymentFailed{Rollout: c.Rollout, Reason: "hoho"}, `"mallory" does not deploy to prod`)
	s.refused("argocd", events.ServicePublished{Lemnis: deployed("", artifact(1)).Lemnis}, "can not be asked for")

	s.claim("argocd", deployed(c.Rollout.ID, artifact(1)))
	if got := s.story("prod/api"); got != "deployment.requested, gate.evaluated, deployment.started, service.deployed, service.published" {
		t.Error(got)
	}
	for _, f := range s.Facts() {
		if p, ok := f.Content.(events.ServicePublished); ok && p.Lemnis.URL != "https://shop.example.org" {
			t.Errorf("users reach it at %q", p.Lemnis.URL)
		}
	}
	if got := s.story("far/api"); got != "deployment.requested, gate.evaluated, deployment.started" {
		t.Errorf("the next environment: %s", got)
	}
	s.refused("argocd", deployed(c.Rollout.ID, artifact(1)), "serves here already")
}

// Tools know the image, the pipeline the program within: either digest names the artifact.
func TestAnotherToolNamesTheArtifactByItsImage(t *testing.T) {
	s := newShop(t, outside("prod"))
	a := artifact(1)
	image := "sha256:" + strings.Repeat("ab", 32)
	a.Reference, a.ID = "registry.example.org/shop/api@"+image, "pkg:oci/api@"+strings.ReplaceAll(image, ":", "%3A")+"?repository_url=registry.example.org/shop/api"
	s.Put(events.Stated, "a", "", events.ArtifactPublished{Lemnis: a})
	s.claim("argocd", events.ServiceUpgraded{Environment: events.Reference{ID: "prod"}, ArtifactID: a.ID,
		Lemnis: events.ServiceDetail{Rollout: events.Rollout{Environment: "prod", Service: "api"}}})
	if got := s.State("prod/api"); got.Serving == nil || got.Serving.Artifact.Digest != a.Digest {
		t.Errorf("%+v: %s", got, s.story("prod/api"))
	}
}

func TestAnotherToolIsLate(t *testing.T) {
	s := newShop(t, outside("prod"))
	s.publish(1)
	fact, c := asked(t, s)
	fire := func() {
		s.Put(events.Result, "prod/api", "", events.DeadlineReached{Fact: fact.ID, Aggregate: rollout.Kind, Key: "prod/api"})
	}
	s.time = now.Add(9 * time.Minute)
	fire() // one of a rollout before
	s.wantStory("prod/api", "deployment.requested, gate.evaluated, deployment.started")
	s.time = now.Add(10 * time.Minute)
	s.claim("bo", events.DeploymentPaused{Rollout: c.Rollout}) // a pause holds the way forward, not the deadline
	fire()
	s.wantStory("prod/api", "deployment.requested, gate.evaluated, deployment.started, deployment.paused, deployment.failed deadline")
	last := s.Facts()[len(s.Facts())-1].Content.(events.DeploymentFailed)
	if !strings.Contains(last.Reason, "2026-03-01T12:10:00Z") || !strings.Contains(last.Reason, artifact(1).Digest) {
		t.Error(last.Reason)
	}
	s.refused("argocd", deployed("", artifact(1)), "too late")
	s.publish(2)
	s.refused("argocd", deployed(c.Rollout.ID, artifact(1)), "too late")
	s.claim("argocd", deployed("", artifact(2)))
	// Once more, by hand: the same artifact is awaited again.
	s.claim("bo", events.DeploymentRequested{Rollout: c.Rollout})
	s.claim("argocd", deployed("", artifact(1)))
	if got := s.State("prod/api"); got.Serving.Artifact.Digest != artifact(1).Digest || got.Stage != rollout.Idle {
		t.Error(s.story("prod/api"))
	}
}

func TestAnotherToolFails(t *testing.T) {
	s := newShop(t, outside("prod"))
	s.publish(1)
	s.claim("argocd", events.DeploymentFailed{Rollout: events.Rollout{Environment: "prod", Service: "api", Artifact: artifact(1)}, Reason: "image can not be pulled"})
	s.wantStory("prod/api", "deployment.requested, gate.evaluated, deployment.started, deployment.failed outside")
	if c := s.Facts()[len(s.Facts())-1].Content.(events.DeploymentFailed); c.Reason != "argocd says: image can not be pulled" {
		t.Error(c.Reason)
	}
	s.refused("argocd", deployed("", artifact(1)), "nobody was asked")
}

// What another tool runs is nothing that a canary can be compared with.
func TestAnEnvironmentComesBackFromAnotherTool(t *testing.T) {
	s := newShop(t, outside("prod"))
	s.publish(1)
	s.claim("argocd", deployed("", artifact(1)))
	s.Project.Environments = []events.Environment{{Name: "prod", Target: "process", Strategy: "canary"}}
	s.publish(2)
	if got := s.story("prod/api"); !strings.HasSuffix(got, "deployment.started, service.deployed, testsuiterun.finished, canary.stepped 1, service.published") {
		t.Error(got)
	}
}

// A tool takes back by itself what it deployed: that is a fact of here too, and bars what was bad.
func TestAnotherToolTakesBack(t *testing.T) {
	back := func(n int, reason string) events.ServiceRolledback {
		return events.ServiceRolledback{Environment: events.Reference{ID: "prod"}, ArtifactID: artifact(n).ID,
			Lemnis: events.ServiceDetail{Reason: reason, Rollout: events.Rollout{Environment: "prod", Service: "api"}}}
	}
	image := func(n int) events.ServiceRolledback {
		c := back(n, "readiness failed")
		c.ArtifactID = "pkg:oci/api@" + artifact(n).Digest
		return c
	}
	s := newShop(t, events.Environment{Name: "test"}, outside("prod"))
	s.publish(1)
	s.refused("argocd", image(1), "nothing serves here")
	for n := range 3 {
		s.publish(n + 1)
		s.claim("argocd", deployed("", artifact(n+1)))
	}
	s.refused("mallory", image(2), `"mallory" does not deploy to prod`)
	s.refused("argocd", back(2, ""), "which artifact")
	s.refused("argocd", image(3), "serves here already")
	s.refused("argocd", image(9), "none of the last")
	before := s.story("prod/api")
	s.claim("argocd", image(2))
	s.wantStory("prod/api", before+", service.rolledback, artifact.barred")
	state := s.State("prod/api")
	if state.Serving.Artifact.Digest != artifact(2).Digest || state.Barred[artifact(3).Digest] == "" || s.State("test/api").Barred[artifact(3).Digest] == "" {
		t.Errorf("%+v", state)
	}
	for _, f := range s.Facts() {
		if c, ok := f.Content.(events.ServiceRolledback); ok && (c.Lemnis.Rollout.Artifact.Digest != artifact(3).Digest || c.ArtifactID != artifact(2).ID || c.Lemnis.Reason != "argocd took it back: readiness failed") {
			t.Errorf("%+v", c)
		}
	}

	// What it was asked for was there, and is not any more.
	s.publish(4)
	s.refused("argocd", image(4), "was asked for")
	before = s.story("prod/api")
	s.claim("argocd", image(2))
	s.wantStory("prod/api", before+", service.rolledback, artifact.barred")
	if got := s.State("prod/api"); got.Stage != rollout.Idle || got.Serving.Artifact.Digest != artifact(2).Digest || got.Barred[artifact(4).Digest] == "" {
		t.Errorf("%+v", got)
	}

	// It is asked to go back, and says so in its words.
	s.publish(5)
	s.claim("argocd", deployed("", artifact(5)))
	s.detected("i-1", "api", events.IncidentDetail{Rollout: s.State("prod/api").Serving.Rollout})
	s.claim("argocd", image(2))
	if got := s.story("prod/api"); !strings.HasSuffix(got, "deployment.started, service.upgraded, service.published, service.rolledback") || s.State("prod/api").Serving.Artifact.Digest != artifact(2).Digest {
		t.Error(got)
	}
}

package rollout_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

// incident is what the monitor states of one in prod.
func incident(service string, d events.IncidentDetail) events.Incident {
	return events.Incident{Description: "users suffer", Environment: events.Reference{ID: "prod"}, Service: &events.Reference{ID: service}}
}

func (s *shop) detected(id, service string, d events.IncidentDetail) {
	s.Put(events.Stated, id, "", events.IncidentDetected{Incident: incident(service, d), Lemnis: d})
	s.settle()
}

func (s *shop) resolved(id, service string) {
	s.Put(events.Stated, id, "", events.IncidentResolved{Incident: incident(service, events.IncidentDetail{})})
	s.settle()
}

// publishOf publishes an artifact of a service, made for an item.
func (s *shop) publishOf(service string, n int, item string) events.ArtifactDetail {
	a := artifact(n)
	a.Service, a.Item, a.Change = service, item, ""
	a.ID = strings.Replace(a.ID, "api", service, 1)
	s.Put(events.Stated, service, "", events.ArtifactPublished{Lemnis: a})
	s.settle()
	return a
}

func newTown(t *testing.T, environments ...events.Environment) *shop {
	s := newShop(t, environments...)
	s.Project.Repositories = []events.RepositoryRef{{Name: "api"}, {Name: "web", Needs: []string{"api"}}, {Name: "mail"}}
	return s
}

func TestAnIncidentHoldsWhatIsInFlightUntilItIsOver(t *testing.T) {
	s := newTown(t, canaryProd(time.Hour, 0.95)...)
	s.publish(1)
	s.publish(2)
	s.detected("i-1", "mail", events.IncidentDetail{})
	s.Put(events.Stated, "slo", "", events.SLOBurned{Environment: "prod", Service: "mail", Objective: "availability"})
	s.detected("i-1", "mail", events.IncidentDetail{}) // told again
	held := upgrade + "0.1, deployment.paused, deployment.paused"
	if got := s.story("prod/api"); !strings.HasSuffix(got, held) {
		t.Fatal(got)
	}
	for range 20 {
		s.observe("prod/api", 500, 0, 500)
	}
	s.resolved("i-1", "mail")
	if got := s.story("prod/api"); !strings.HasSuffix(got, held+", deployment.resumed") {
		t.Fatal(got) // the budget burns still
	}
	s.Put(events.Stated, "slo", "", events.SLORecovered{Environment: "prod", Service: "mail", Objective: "availability"})
	s.settle()
	if got := s.story("prod/api"); !strings.Contains(got, "deployment.resumed, deployment.resumed, canary.stepped") {
		t.Error(got)
	}
	if got := s.story("prod/mail"); got != "" {
		t.Error("nothing is in flight there: " + got)
	}
}

func TestAPersonMayGoOnInSpiteOfAnIncident(t *testing.T) {
	s := newTown(t, canaryProd(time.Hour, 0.95)...)
	s.publish(1)
	s.publish(2)
	s.detected("i-1", "mail", events.IncidentDetail{})
	r := events.Rollout{Environment: "prod", Service: "api"}
	s.claim("bo", events.DeploymentResumed{Rollout: r, Incident: "i-2"})
	s.refused("bo", events.DeploymentResumed{Rollout: r}, "not paused")
	// Nobody speaks for the incident.
	f := s.claim("lemnis", events.DeploymentPaused{Rollout: r, Incident: "i-9"})
	if c, ok := f.Content.(events.DeploymentPaused); !ok || c.By == rollout.Halter || c.Incident != "" {
		t.Errorf("%+v", f.Content)
	}
	s.resolved("i-1", "mail")
	if got := s.State("prod/api"); !got.Paused {
		t.Error("a person's pause ends by a person")
	}
}

func TestACanaryThatAnIncidentIsHeldAgainstGoesBack(t *testing.T) {
	s := newTown(t, canaryProd(time.Hour, 0.95)...)
	s.publish(1)
	s.publish(2)
	s.detected("i-1", "api", events.IncidentDetail{Rollout: s.State("prod/api").Current.Rollout.ID})
	if got := s.story("prod/api"); !strings.HasSuffix(got, upgrade+"0.1, canary.judged rollback, service.rolledback, artifact.barred") {
		t.Error(got)
	}
}

func TestWhatServesGoesBackToTheLastGoodOneAndIsBarredUntilANewerComes(t *testing.T) {
	// What goes back waits for no gate.
	s := newTown(t, events.Environment{Name: "prod", Strategy: "blue-green", Gate: events.Gate{Tests: "passed", Freeze: []events.Freeze{{From: "2026-03-02", Until: "2026-03-09"}}}})
	s.publish(1)
	s.publish(2)
	s.publish(3)
	s.time = now.Add(48 * time.Hour)
	bad := s.State("prod/api").Serving.Rollout
	s.detected("i-0", "api", events.IncidentDetail{})                 // nobody knows why
	s.detected("i-1", "api", events.IncidentDetail{Rollout: "other"}) // another's
	s.detected("i-2", "mail", events.IncidentDetail{Rollout: bad})    // mail suffers
	before := s.story("prod/api")
	s.failed = "a test of now" // it was tested when it came
	s.detected("i-3", "api", events.IncidentDetail{Rollout: bad})
	s.failed = ""
	want := ", artifact.barred, deployment.requested, gate.evaluated, deployment.started, service.upgraded, canary.stepped 1, service.published, service.rolledback"
	if got := strings.TrimPrefix(s.story("prod/api"), before); got != want {
		t.Fatalf("\n got %s\nwant %s", got, want)
	}
	state := s.State("prod/api")
	if state.Serving.Artifact.Digest != artifact(2).Digest || state.Revert != nil {
		t.Errorf("%+v", state)
	}
	for _, f := range s.Facts() {
		if c, ok := f.Content.(events.ServiceRolledback); ok && (c.Lemnis.Rollout.ID != bad || c.ArtifactID != artifact(2).ID || c.Lemnis.Reason == "") {
			t.Errorf("%+v", c)
		}
	}
	ask := events.DeploymentRequested{Rollout: events.Rollout{Environment: "prod", Service: "api", Artifact: artifact(3)}}
	s.refused("bo", ask, "barred")
	s.time = now.Add(10 * 24 * time.Hour)
	s.publish(4)
	if got := s.State("prod/api"); got.Serving.Artifact.Digest != artifact(4).Digest {
		t.Errorf("%+v", got.Serving)
	}
	s.claim("bo", ask)
	if got := s.State("prod/api"); got.Serving.Artifact.Digest != artifact(3).Digest {
		t.Error("a person may ask for it again once a newer one came")
	}
}

func TestWithoutAnythingToGoBackToAServiceStays(t *testing.T) {
	s := newTown(t, events.Environment{Name: "prod"})
	s.publish(1)
	before := s.story("prod/api")
	s.detected("i-1", "api", events.IncidentDetail{Rollout: s.State("prod/api").Serving.Rollout})
	if got := s.story("prod/api"); got != before {
		t.Error(got)
	}
}

func TestABackThatDoesNotStartTriesTheOneBefore(t *testing.T) {
	s := newTown(t, events.Environment{Name: "prod"})
	for n := range 3 {
		s.publish(n + 1)
	}
	bad := s.State("prod/api").Serving.Rollout
	s.lazy = true
	s.detected("i-1", "api", events.IncidentDetail{Rollout: bad})
	for _, n := range []int{2, 1} {
		r := s.State("prod/api").Current.Rollout
		if r.Artifact.Digest != artifact(n).Digest || !r.Back {
			t.Fatalf("%+v", r)
		}
		s.Put(events.Result, "prod/api", "", events.DeploymentFailed{Rollout: r, Step: "start", Reason: "no such file"})
	}
	if got := s.State("prod/api"); got.Stage != rollout.Idle || got.Revert != nil || got.Serving.Rollout != bad {
		t.Errorf("%+v", got)
	}
}

func TestServicesThatBelongTogetherGoBackTogether(t *testing.T) {
	s := newTown(t, events.Environment{Name: "prod"})
	for _, service := range []string{"api", "web", "mail"} {
		s.publishOf(service, 1, "item-1")
	}
	for _, service := range []string{"api", "web", "mail"} {
		s.publishOf(service, 2, "item-2")
	}
	from := len(s.Facts())
	s.detected("i-1", "api", events.IncidentDetail{Rollout: s.State("prod/api").Serving.Rollout})
	var order []string
	for _, f := range s.Facts()[from:] {
		switch f.Content.(type) {
		case events.DeploymentStarted, events.ServiceRolledback:
			order = append(order, f.Key+" "+f.Type.Short())
		}
	}
	// mail was made for the same item, but neither needs the other.
	if got := strings.Join(order, ", "); got != "prod/api deployment.started, prod/api service.rolledback, prod/web deployment.started, prod/web service.rolledback" {
		t.Error(got)
	}
	for service, n := range map[string]int{"api": 1, "web": 1, "mail": 2} {
		if got := s.State("prod/" + service).Serving.Artifact.Digest; got != artifact(n).Digest {
			t.Errorf("%s serves %s", service, got)
		}
	}
}

func TestAnEnvironmentRemovedInTheMiddleOfARollout(t *testing.T) {
	s := newTown(t, canaryProd(time.Hour, 0.95)...)
	s.publish(1)
	s.publish(2)
	s.Project.Environments = []events.Environment{{Name: "live"}}
	s.observe("prod/api", 10, 0, 90)
	if got := s.story("prod/api"); !strings.HasSuffix(got, "canary.stepped 0.1, deployment.aborted, service.rolledback") {
		t.Error(got)
	}
	if got := s.State("prod/api"); got.Stage != rollout.Idle || got.Serving.Artifact.Digest != artifact(1).Digest {
		t.Errorf("%+v", got)
	}

	s = newTown(t, events.Environment{Name: "prod", Gate: events.Gate{Approvals: 1}})
	s.publish(1)
	s.Project.Environments = nil
	s.claim("bo", events.ApprovalGiven{Environment: "prod", Service: "api"})
	if got := s.story("prod/api"); !strings.HasSuffix(got, "approval.given, deployment.failed environment") {
		t.Error(got)
	}
}

// What waits behind a version that turns out bad is not forgotten: it may be what mends it.
func TestWhatWaitsComesAfterTheWayBack(t *testing.T) {
	s := newTown(t, events.Environment{Name: "prod"})
	s.publish(1)
	s.lazy = true
	s.publish(2)
	bad := s.State("prod/api").Current.Rollout
	step := func(content any) {
		s.Report(string(events.TypeOf(content)), events.Event{Key: "prod/api", Phase: events.Deploy, Content: content})
	}
	step(events.ServiceUpgraded{Lemnis: events.ServiceDetail{Rollout: bad}})
	step(events.TestSuiteRunFinished{Outcome: events.Success, Lemnis: events.TestSuiteRunDetail{Rollout: bad.ID}})
	s.publish(3)
	s.detected("i-1", "api", events.IncidentDetail{Rollout: bad.ID}) // on its way to all users
	s.lazy = false
	step(events.ServicePublished{Lemnis: events.ServiceDetail{Rollout: bad}})
	s.settle()
	state := s.State("prod/api")
	if got := s.story("prod/api"); strings.Count(got, "service.rolledback") != 1 || state.Serving.Artifact.Digest != artifact(3).Digest || state.Stage != rollout.Idle {
		t.Errorf("%s serves after %s", state.Serving.Artifact.ID, got)
	}
}

// What serves goes back when an incident names it, also while something newer waits: that gives way, and comes after it.
func TestWhatServesGoesBackWhileANewerOneWaits(t *testing.T) {
	for name, test := range map[string]struct {
		paused bool
		want   string
	}{
		"it waits":     {false, ", service.published, service.rolledback, gate.evaluated, approval.requested"},
		"it is paused": {true, ", service.published, service.rolledback"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTown(t, events.Environment{Name: "prod"})
			s.publish(1)
			s.publish(2)
			s.Project.Environments[0].Gate.Approvals = 1
			s.publish(3)
			waiting := s.State("prod/api").Current.Rollout
			if test.paused {
				s.claim("bo", events.DeploymentPaused{Rollout: waiting})
			}
			bad := s.State("prod/api").Serving.Rollout
			s.detected("i-1", "api", events.IncidentDetail{Rollout: bad})
			s.detected("i-1", "api", events.IncidentDetail{Rollout: bad}) // told again
			got := s.story("prod/api")
			if !strings.HasSuffix(got, test.want) || strings.Count(got, "artifact.barred") != 1 || strings.Contains(got, "failed halt") != test.paused {
				t.Error(got)
			}
			state := s.State("prod/api")
			if state.Serving.Artifact.Digest != artifact(1).Digest || state.Revert != nil || (state.Current.Rollout.ID == waiting.ID) == test.paused {
				t.Errorf("%+v", state)
			}
			if !test.paused {
				s.claim("bo", events.ApprovalGiven{Environment: "prod", Service: "api"})
				if got := s.State("prod/api"); got.Serving.Artifact.Digest != artifact(3).Digest {
					t.Error(s.story("prod/api"))
				}
			}
		})
	}
}

// A canary goes on when what it is compared with turns out bad: it is what mends it, or goes back to the one before both.
func TestACanaryGoesOnWhenWhatServesIsNamed(t *testing.T) {
	for name, good := range map[string]bool{"good": true, "bad": false} {
		t.Run(name, func(t *testing.T) {
			s := newTown(t, events.Environment{Name: "prod"})
			s.publish(1)
			s.publish(2)
			s.Project.Environments = canaryProd(time.Hour, 0.95)
			s.publish(3)
			s.detected("i-1", "api", events.IncidentDetail{Rollout: s.State("prod/api").Serving.Rollout})
			if got := s.story("prod/api"); !strings.HasSuffix(got, "canary.stepped 0.1, artifact.barred") {
				t.Fatal(got)
			}
			want := artifact(3)
			if good {
				for range 40 {
					s.observe("prod/api", 500, 0, 500)
				}
			} else {
				want = artifact(1)
				for range 5 {
					s.observe("prod/api", 500, 100, 500)
				}
			}
			if got := s.State("prod/api"); got.Serving.Artifact.Digest != want.Digest || got.Stage != rollout.Idle || got.Revert != nil {
				t.Errorf("%s serves after %s", got.Serving.Artifact.ID, s.story("prod/api"))
			}
		})
	}
}

// What turned out bad in one environment does not enter the next one, though its gate was open before.
func TestWhatIsBarredMeanwhileDoesNotStart(t *testing.T) {
	s := newTown(t, events.Environment{Name: "test"}, events.Environment{Name: "prod", Gate: events.Gate{Approvals: 1}})
	s.publish(1)
	s.claim("bo", events.ApprovalGiven{Environment: "prod", Service: "api"})
	s.publish(2)
	d := events.IncidentDetail{Rollout: s.State("test/api").Serving.Rollout}
	i := incident("api", d)
	i.Environment.ID = "test"
	s.Put(events.Stated, "i-1", "", events.IncidentDetected{Incident: i, Lemnis: d})
	s.settle()
	if got := s.story("prod/api"); !strings.HasSuffix(got, "approval.requested, artifact.barred, deployment.failed halt") {
		t.Error(got)
	}
}

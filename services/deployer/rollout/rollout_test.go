package rollout_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/rollout"
	"github.com/lemnis/lemnis/services/deployer/rollout/rollouttest"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func artifact(n int) events.ArtifactDetail {
	digest := fmt.Sprintf("sha256:%064d", n)
	return events.ArtifactDetail{
		ID: fmt.Sprintf("pkg:oci/api@%d", n), Service: "api", Reference: "127.0.0.1:1/shop/api@" + digest, Digest: digest,
		Author: "ann", Change: fmt.Sprint("c", n), Evidence: &events.Evidence{Run: "r", Tests: 3, Coverage: 90},
	}
}

// shop is a stream whose effects succeed at once, but for what a test sets.
type shop struct {
	*rollouttest.Stream
	t       *testing.T
	time    time.Time
	results []func() // of effects, not yet reported
	lazy    bool     // effects do nothing
	failed  string   // reason of the runtime tests
}

func newShop(t *testing.T, environments ...events.Environment) *shop {
	s := &shop{t: t, time: now}
	p := events.DefaultProject("shop")
	if len(environments) > 0 {
		p.Environments = environments
	}
	s.Stream = &rollouttest.Stream{Project: p, Now: func() time.Time { return s.time }, Each: s.work}
	return s
}

func (s *shop) work(fact events.Event) {
	report := func(content any, more ...func(*events.Event)) {
		if s.lazy {
			return
		}
		s.results = append(s.results, func() {
			e := events.Event{Kind: events.Result, Key: fact.Key, Phase: events.Deploy, Chain: fact.Chain, Content: content, Attempt: 1}
			s.Report(fact.ID+string(events.TypeOf(content)), e)
		})
	}
	switch c := fact.Content.(type) {
	case events.DeploymentStarted:
		switch {
		case c.Rollout.Target == events.OutsideTarget: // no effect's
		case c.Rollout.Previous == nil:
			report(events.ServiceDeployed{Environment: events.Reference{ID: c.Rollout.Environment}, Lemnis: events.ServiceDetail{Rollout: c.Rollout}})
		default:
			report(events.ServiceUpgraded{Environment: events.Reference{ID: c.Rollout.Environment}, Lemnis: events.ServiceDetail{Rollout: c.Rollout}})
		}
	case events.ServiceDeployed:
		s.tested(report, c.Lemnis.Rollout)
	case events.ServiceUpgraded:
		s.tested(report, c.Lemnis.Rollout)
	case events.CanaryStepped:
		if c.Weight == 1 {
			report(events.ServicePublished{Environment: events.Reference{ID: c.Rollout.Environment}, Lemnis: events.ServiceDetail{Rollout: c.Rollout, URL: "http://127.0.0.1:1"}})
		}
	case events.CanaryJudged:
		if c.Verdict == events.Rollback {
			report(events.ServiceRolledback{Lemnis: events.ServiceDetail{Rollout: c.Rollout, Reason: c.Reason}})
		}
	case events.DeploymentAborted:
		report(events.ServiceRolledback{Lemnis: events.ServiceDetail{Rollout: c.Rollout, Reason: c.Reason}})
	}
}

func (s *shop) tested(report func(any, ...func(*events.Event)), r events.Rollout) {
	c := events.TestSuiteRunFinished{Environment: events.Reference{ID: r.Environment}, Outcome: events.Success, Lemnis: events.TestSuiteRunDetail{Rollout: r.ID}}
	if s.failed != "" {
		c.Outcome, c.Reason = events.Failure, s.failed
	}
	report(c)
}

func (s *shop) settle() {
	for len(s.results) > 0 {
		f := s.results[0]
		s.results = s.results[1:]
		f()
	}
}

func (s *shop) publish(n int) {
	s.Put(events.Stated, "a", "", events.ArtifactPublished{Lemnis: artifact(n)})
	s.settle()
}

func (s *shop) claim(principal string, content any) events.Event {
	s.t.Helper()
	facts := s.Put(events.Claim, "x", principal, content)
	s.settle()
	if len(facts) == 0 {
		s.t.Fatalf("the claim %T got no answer", content)
	}
	return facts[0]
}

func (s *shop) refused(principal string, content any, reason string) {
	s.t.Helper()
	r, ok := s.claim(principal, content).Content.(events.ClaimRefused)
	if !ok || !strings.Contains(r.Reason, reason) {
		s.t.Errorf("%+v was not refused with %q: %+v", content, reason, r)
	}
}

func (s *shop) observe(key string, canary, canaryErrors, baseline int64) {
	st := s.State(key)
	s.time = s.time.Add(time.Second)
	s.Put(events.Result, key, "", events.CanaryObserved{
		Rollout: st.Current.Rollout.ID, Tick: st.Tick + 1, Elapsed: s.time.Sub(st.Exposed).Seconds(), Weight: st.Weight,
		Canary: events.Counts{Requests: canary, Errors: canaryErrors}, Baseline: events.Counts{Requests: baseline},
	})
	s.settle()
}

// story is the facts as short words.
func (s *shop) story(key string) string {
	var words []string
	for _, f := range s.Facts() {
		if f.Key == key {
			word := f.Type.Short()
			switch c := f.Content.(type) {
			case events.CanaryStepped:
				word += fmt.Sprintf(" %.2g", c.Weight)
			case events.CanaryJudged:
				word += " " + c.Verdict
			case events.DeploymentFailed:
				word += " " + c.Step
			case events.CanaryObserved, events.ClaimRefused:
				continue
			}
			words = append(words, word)
		}
	}
	return strings.Join(words, ", ")
}

func (s *shop) wantStory(key, want string) {
	s.t.Helper()
	if got := s.story(key); got != want {
		s.t.Errorf("%s\n got %s\nwant %s", key, got, want)
	}
}

const (
	first   = "deployment.requested, gate.evaluated, deployment.started, service.deployed, testsuiterun.finished, canary.stepped 1, service.published"
	upgrade = "deployment.requested, gate.evaluated, deployment.started, service.upgraded, testsuiterun.finished, canary.stepped "
)

func TestTheFirstArtifactGoesThroughEveryEnvironmentAllAtOnce(t *testing.T) {
	s := newShop(t)
	s.publish(1)
	for _, key := range []string{"dev/api", "test/api", "prod/api"} {
		s.wantStory(key, first)
	}
	for _, f := range s.Facts() {
		if f.Chain != "chain-1" {
			t.Errorf("%s is in %s", f.Type.Short(), f.Chain)
		}
	}
	if got := s.State("prod/api"); got.Serving.Artifact.Digest != artifact(1).Digest || got.Stage != rollout.Idle {
		t.Errorf("%+v", got)
	}
	s.publish(1) // it is there already
	s.wantStory("dev/api", first)
}

func TestAGoodCanaryRampsUpAndIsPromoted(t *testing.T) {
	s := newShop(t)
	s.publish(1)
	s.publish(2)
	for range 60 {
		if s.State("prod/api").Stage == rollout.Observing {
			s.observe("prod/api", 500, 0, 2000)
		}
	}
	story := s.story("prod/api")
	if !strings.HasPrefix(story, first+", "+upgrade+"0.1, canary.stepped 0.") || !strings.HasSuffix(story, "canary.judged promote, canary.stepped 1, service.published") {
		t.Error(story)
	}
	if got := s.State("prod/api").Serving.Artifact.Digest; got != artifact(2).Digest {
		t.Error(got)
	}
}

func TestABadCanaryIsRolledBackAndBarredEverywhere(t *testing.T) {
	s := newShop(t)
	s.publish(1)
	s.publish(2)
	s.observe("prod/api", 20, 6, 180)
	s.observe("prod/api", 20, 8, 180)
	s.wantStory("prod/api", first+", "+upgrade+"0.1, canary.judged rollback, service.rolledback, artifact.barred")
	s.wantStory("dev/api", first+", "+upgrade+"1, service.published, artifact.barred")
	if got := s.State("prod/api"); got.Serving.Artifact.Digest != artifact(1).Digest || got.Stage != rollout.Idle {
		t.Errorf("%+v", got)
	}
	s.refused("bo", events.DeploymentRequested{Rollout: events.Rollout{Environment: "test", Service: "api", Artifact: artifact(2)}}, "barred")
	// A barred artifact that the pipeline publishes again does not pass the gate.
	s.publish(1)
	s.publish(2)
	if !strings.HasSuffix(s.story("dev/api"), "deployment.requested, gate.evaluated, deployment.failed gate") {
		t.Error(s.story("dev/api"))
	}
}

func canaryProd(deadline time.Duration, objective float64) []events.Environment {
	return []events.Environment{{Name: "prod", Strategy: "canary", Canary: &events.CanaryPolicy{Deadline: events.Duration(deadline), Objective: objective}}}
}

func TestTheDeadline(t *testing.T) {
	for _, test := range []struct {
		name                     string
		requests, errors, others int64
		want                     string
	}{
		{"promotes while the evidence is small", 20, 0, 180, "promote, canary.stepped 1, service.published"},
		{"holds with too little traffic", 1, 0, 9, "hold"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newShop(t, canaryProd(3*time.Second, 0.95)...)
			s.publish(1)
			s.publish(2)
			s.observe("prod/api", test.requests, test.errors, test.others)
			s.time = s.time.Add(5 * time.Second)
			s.observe("prod/api", test.requests, 0, test.others)
			s.observe("prod/api", 0, 0, 0)
			if got := s.story("prod/api"); !strings.HasSuffix(got, "canary.judged "+test.want) || strings.Count(got, "judged") != 1 {
				t.Error(got)
			}
		})
	}
}

func TestDoubtAtTheDeadlineGetsAsMuchTimeAgain(t *testing.T) {
	s := newShop(t, canaryProd(time.Minute, 0.95)...)
	s.publish(1)
	s.publish(2)
	s.observe("prod/api", 20, 3, 200)
	s.time = s.time.Add(time.Minute)
	s.observe("prod/api", 20, 0, 200)
	s.observe("prod/api", 0, 0, 0)
	if got := s.story("prod/api"); !strings.Contains(got, "canary.judged hold") || strings.Count(got, "judged") != 1 {
		t.Fatal(got)
	}
	s.time = s.time.Add(time.Minute)
	s.observe("prod/api", 0, 0, 0)
	if got := s.story("prod/api"); !strings.HasSuffix(got, "canary.judged rollback, service.rolledback, artifact.barred") {
		t.Error(got)
	}
}

// When the time that doubt gave ends without doubt and without the traffic for a decision, people are told again, once: the last that
// they heard was how long the canary has.
func TestTooLittleTrafficIsToldAlsoAfterTheExtension(t *testing.T) {
	s := newShop(t, canaryProd(time.Minute, 0.999)...)
	s.publish(1)
	s.publish(2)
	s.observe("prod/api", 20, 3, 200)
	s.time = s.time.Add(time.Minute)
	s.observe("prod/api", 0, 0, 0)
	if got := s.story("prod/api"); !strings.HasSuffix(got, "canary.judged hold") {
		t.Fatal(got)
	}
	r := s.State("prod/api")
	s.Put(events.Result, "prod/api", "", events.CanaryObserved{Rollout: r.Current.Rollout.ID, Tick: r.Tick + 1, Weight: r.Weight, Elapsed: 90,
		Canary: events.Counts{Requests: 20}, Baseline: events.Counts{Requests: 200, Errors: 20}})
	s.settle()
	s.time = s.time.Add(time.Minute)
	for range 3 {
		s.observe("prod/api", 0, 0, 0)
	}
	var held []events.CanaryJudged
	for _, f := range s.Facts() {
		if c, ok := f.Content.(events.CanaryJudged); ok {
			held = append(held, c)
		}
	}
	if len(held) != 2 || !held[0].Extended || held[1].Extended || held[1].Verdict != events.Hold || held[1].Needed == 0 || !strings.Contains(held[1].Reason, "too little traffic") {
		t.Errorf("%d verdicts: %+v", len(held), held)
	}
	s.claim("bo", events.ApprovalGiven{Environment: "prod", Service: "api"})
	if got := s.story("prod/api"); !strings.HasSuffix(got, "canary.judged hold, approval.given, canary.judged promote, canary.stepped 1, service.published") {
		t.Error(got)
	}
}

func TestAPersonLetsAHeldCanaryGoOn(t *testing.T) {
	s := newShop(t, canaryProd(3*time.Second, 0.95)...)
	s.publish(1)
	s.publish(2)
	yes := events.ApprovalGiven{Environment: "prod", Service: "api"}
	s.refused("bo", yes, "does not wait")
	s.time = s.time.Add(5 * time.Second)
	s.observe("prod/api", 1, 0, 9)
	s.refused("ann", yes, "author")
	s.claim("bo", yes)
	if got := s.story("prod/api"); !strings.HasSuffix(got, "canary.judged hold, approval.given, canary.judged promote, canary.stepped 1, service.published") {
		t.Error(got)
	}
}

func TestApprovals(t *testing.T) {
	s := newShop(t, events.Environment{Name: "prod", Gate: events.Gate{Tests: "passed", Approvals: 2}})
	yes := events.ApprovalGiven{Environment: "prod", Service: "api"}
	s.refused("bo", yes, "no rollout is in flight")
	s.publish(1)
	s.refused("ann", yes, "author")
	s.refused("local", events.ApprovalGiven{Environment: "prod", Service: "api", By: "Ann"}, "author")
	s.refused("", yes, "name")
	s.refused("bo", events.ApprovalGiven{Environment: "prod", Service: "api", Rollout: "another"}, "not another")
	s.claim("bo", yes)
	s.refused("bo", yes, "already")
	s.wantStory("prod/api", "deployment.requested, gate.evaluated, approval.requested, approval.given")
	s.claim("cy", yes)
	if got := s.story("prod/api"); !strings.HasSuffix(got, "approval.given, deployment.started, service.deployed, testsuiterun.finished, canary.stepped 1, service.published") {
		t.Error(got)
	}
	s.publish(2)
	s.claim("bo", events.ApprovalRefused{Environment: "prod", Service: "api", Reason: "on a Friday"})
	if got := s.story("prod/api"); !strings.HasSuffix(got, "approval.refused, deployment.failed gate") {
		t.Error(got)
	}
}

func TestAGateThatHasToSoakSetsADeadline(t *testing.T) {
	s := newShop(t, events.Environment{Name: "test"}, events.Environment{Name: "prod", Gate: events.Gate{Runtime: "passed", Soak: events.Duration(time.Hour)}})
	s.publish(1)
	s.wantStory("prod/api", "deployment.requested, gate.evaluated")
	facts := s.Facts()
	gated := facts[len(facts)-1]
	if !gated.Deadline.Equal(now.Add(time.Hour)) {
		t.Errorf("deadline %s", gated.Deadline)
	}
	fire := func() {
		s.Put(events.Result, "prod/api", "", events.DeadlineReached{Fact: gated.ID, Aggregate: rollout.Kind, Key: "prod/api"})
		s.settle()
	}
	s.time = now.Add(time.Hour - time.Second)
	fire() // a little early: it waits again
	s.time = now.Add(time.Hour)
	fire()
	s.wantStory("prod/api", "deployment.requested, gate.evaluated, gate.evaluated, gate.evaluated, deployment.started, service.deployed, testsuiterun.finished, canary.stepped 1, service.published")
}

// lookUp reports what the effect verify would have.
func (s *shop) lookUp(key string, checks ...events.Check) {
	s.Put(events.Result, key, "", events.GateEvaluated{Rollout: s.State(key).Current.Rollout, Checks: checks})
	s.settle()
}

func TestAGateThatTakesNobodysWordWaitsForTheLookUp(t *testing.T) {
	condition := events.Condition{Name: "small", That: "artifact.size < 100"}
	s := newShop(t, events.Environment{Name: "dev", Gate: events.Gate{Conditions: []events.Condition{condition}}}, events.Environment{Name: "prod"})
	holds := events.Check{Name: "conditions.small", Value: "true", Passed: true}
	s.publish(1)
	s.wantStory("dev/api", "deployment.requested, gate.evaluated")
	s.lookUp("dev/api", holds)
	s.wantStory("dev/api", strings.Replace(first, "gate.evaluated", "gate.evaluated, gate.evaluated", 1))
	// The later environment has the condition too.
	s.wantStory("prod/api", "deployment.requested, gate.evaluated")
	holds.Passed, holds.Value = false, "false"
	s.lookUp("prod/api", holds)
	s.wantStory("prod/api", "deployment.requested, gate.evaluated, gate.evaluated, deployment.failed gate")
	s.lookUp("prod/api", holds) // late
	facts := s.Facts()
	failed, ok := facts[len(facts)-1].Content.(events.DeploymentFailed)
	if !ok || failed.Reason != "conditions.small: false (asked for: artifact.size < 100)" {
		t.Errorf("%+v", failed)
	}
	s.refused("bo", events.GateEvaluated{Rollout: events.Rollout{Environment: "dev", Service: "api"}, Passed: true}, "can not be asked for")
}

func TestAnApprovalDuringAFreezeWaitsForItsEnd(t *testing.T) {
	s := newShop(t, events.Environment{Name: "prod", Gate: events.Gate{Approvals: 1, Freeze: []events.Freeze{{From: "2026-03-01T13:00:00Z", Until: "2026-03-02"}}}})
	s.publish(1)
	s.time = now.Add(2 * time.Hour)
	s.claim("bo", events.ApprovalGiven{Environment: "prod", Service: "api"})
	s.wantStory("prod/api", "deployment.requested, gate.evaluated, approval.requested, approval.given, gate.evaluated")
	facts := s.Facts()
	frozen := facts[len(facts)-1]
	if !frozen.Deadline.Equal(now.Add(12 * time.Hour)) {
		t.Errorf("deadline %s", frozen.Deadline)
	}
	s.time = now.Add(12 * time.Hour)
	s.Put(events.Result, "prod/api", "", events.DeadlineReached{Fact: frozen.ID, Aggregate: rollout.Kind, Key: "prod/api"})
	s.settle()
	if got := s.story("prod/api"); !strings.Contains(got, "approval.given, gate.evaluated, gate.evaluated, deployment.started") || !strings.HasSuffix(got, "service.published") {
		t.Error(got)
	}
}

func TestOnlyWhatWasPromotedCanBeAskedForByHand(t *testing.T) {
	s := newShop(t)
	ask := func(environment string, n int) events.DeploymentRequested {
		return events.DeploymentRequested{Rollout: events.Rollout{Environment: environment, Service: "api", Artifact: events.ArtifactDetail{Digest: artifact(n).Digest}}}
	}
	s.refused("bo", ask("prod", 1), "no artifact with the digest")
	s.refused("bo", ask("moon", 1), "no environment")
	s.publish(1)
	s.publish(3) // a canary in prod: in flight
	s.refused("bo", ask("prod", 3), "on its way")
	s.claim("bo", events.DeploymentAborted{Rollout: events.Rollout{Environment: "prod", Service: "api"}})
	s.claim("bo", ask("prod", 3))
	if got := s.story("prod/api"); !strings.HasSuffix(got, "canary.stepped 0.1, deployment.aborted, service.rolledback, "+upgrade+"0.1") {
		t.Error(got)
	}
}

func TestTheNewestRequestWaitsBehindTheOneInFlight(t *testing.T) {
	s := newShop(t)
	s.lazy = true
	s.publish(1)
	s.publish(2)
	s.publish(3)
	if got := s.State("dev/api"); got.Queued == nil || got.Queued.Rollout.Artifact.Digest != artifact(3).Digest {
		t.Fatalf("%+v", got.Queued)
	}
	s.lazy = false
	current := s.State("dev/api").Current.Rollout
	s.Put(events.Result, "dev/api", "", events.DeploymentFailed{Rollout: current, Step: "start", Reason: "no such file"})
	s.settle()
	// The one whose place was taken is told.
	s.wantStory("dev/api", "deployment.requested, gate.evaluated, deployment.started, deployment.requested, deployment.requested, deployment.failed queue, deployment.failed start, "+
		strings.TrimPrefix(first, "deployment.requested, "))
	for _, f := range s.Facts() {
		if p, ok := f.Content.(events.ServicePublished); ok && (p.Lemnis.Rollout.Artifact.Digest != artifact(3).Digest || f.Chain == "chain-1") {
			t.Errorf("%s: %s of %s in %s", f.Key, f.Type.Short(), p.Lemnis.Rollout.Artifact.ID, f.Chain)
		}
	}
}

func TestFailedRuntimeTestsEndTheRollout(t *testing.T) {
	s := newShop(t)
	s.failed = "latency: p99 2 s"
	s.publish(1)
	s.wantStory("dev/api", "deployment.requested, gate.evaluated, deployment.started, service.deployed, testsuiterun.finished, deployment.failed test")
	if s.story("test/api") != "" {
		t.Error("it went on to test")
	}
}

func TestPauseHoldsEachStep(t *testing.T) {
	s := newShop(t)
	s.publish(1)
	s.publish(2)
	r := events.Rollout{Environment: "prod", Service: "api"}
	s.claim("bo", events.DeploymentPaused{Rollout: r})
	s.refused("bo", events.DeploymentPaused{Rollout: r}, "already")
	for range 30 {
		s.observe("prod/api", 500, 0, 500)
	}
	if got := s.story("prod/api"); !strings.HasSuffix(got, "canary.stepped 0.1, deployment.paused") {
		t.Error(got)
	}
	s.claim("bo", events.DeploymentResumed{Rollout: r})
	if got := s.story("prod/api"); !strings.Contains(got, "deployment.resumed, canary.stepped 0.") {
		t.Error(got)
	}
	s.claim("bo", events.DeploymentPaused{Rollout: r})
	for range 6 {
		s.observe("prod/api", 50, 20, 50)
	}
	if got := s.story("prod/api"); !strings.HasSuffix(got, "deployment.paused, canary.judged rollback, service.rolledback, artifact.barred") {
		t.Error("a paused canary is still rolled back: " + got)
	}
}

func TestLateAndRepeatedResultsChangeNothing(t *testing.T) {
	s := newShop(t)
	s.publish(1)
	var results []events.Event
	for _, f := range s.Facts() {
		switch f.Content.(type) {
		case events.ServiceDeployed, events.TestSuiteRunFinished, events.ServicePublished:
			results = append(results, f)
		}
	}
	s.publish(2)
	before := s.story("prod/api")
	for _, r := range results {
		s.Put(events.Result, r.Key, "", r.Content)
	}
	if got := s.story("prod/api"); got != before {
		t.Errorf("%s\n%s", before, got)
	}
}

func TestAnOutsideOwnerIsBelieved(t *testing.T) {
	s := newShop(t)
	s.Project.Owners = map[events.Phase]string{events.Deploy: "argo"}
	s.publish(1)
	if len(s.Facts()) != 0 {
		t.Fatalf("did %s itself", s.Facts()[0].Type)
	}
	published := events.ServicePublished{Environment: events.Reference{ID: "test"}, Lemnis: events.ServiceDetail{Rollout: events.Rollout{Environment: "test", Service: "api", Artifact: artifact(1)}}}
	s.refused("mallory", published, "argo")
	fact := s.claim("argo", published)
	c, ok := fact.Content.(events.ServicePublished)
	if !ok || c.Lemnis.Rollout.Next != "prod" || c.Lemnis.Rollout.ID == "" || fact.Key != "test/api" {
		t.Errorf("%+v", fact)
	}
	if len(s.Facts()) != 2 {
		t.Errorf("%d facts", len(s.Facts()))
	}
}

func TestStateSurvivesJSON(t *testing.T) {
	s := newShop(t)
	s.publish(1)
	s.publish(2)
	s.observe("prod/api", 20, 1, 180)
	state := s.State("prod/api")
	b, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	var back rollout.State
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(state, back) {
		t.Errorf("%v\n%+v\n%+v", err, state, back)
	}
	if !slices.Contains(rollout.Takes, events.TypeOf(events.ArtifactPublished{})) {
		t.Error("does not take artifacts")
	}
}

// Requests that come so fast that no fact is met between them: each is told how it ends.
func TestEveryRequestIsToldItsEnd(t *testing.T) {
	p := events.DefaultProject("shop")
	for name, first := range map[string]rollout.State{
		"behind one in flight":  {Stage: rollout.Starting, Current: rollout.Request{Rollout: events.Rollout{ID: "r0"}}},
		"behind one that ended": {Queued: &rollout.Request{Rollout: events.Rollout{ID: "r0", Artifact: artifact(9)}}},
	} {
		t.Run(name, func(t *testing.T) {
			s, open := first, map[string]bool{}
			if s.Queued != nil {
				open["r0"] = true
			}
			fold := func(f events.Fact) {
				switch c := f.Content.(type) {
				case events.DeploymentRequested:
					open[c.Rollout.ID] = true
				case events.DeploymentFailed:
					delete(open, c.Rollout.ID)
				}
				s = rollout.Evolve(s, events.Event{Key: "dev/api", Content: f.Content, Chain: f.Chain, Time: now})
			}
			for n := range 4 {
				f, ok := rollout.Decide("dev/api", s, p, events.Event{Kind: events.Stated, Sequence: uint64(n + 1), Stored: now, Content: events.ArtifactPublished{Lemnis: artifact(n + 1)}})
				if !ok {
					t.Fatal("no request")
				}
				fold(f)
			}
			fold(events.Fact{Content: events.ArtifactBarred{Digest: artifact(4).Digest, Reason: "bad elsewhere"}})
			for range 10 {
				f, ok := rollout.Decide("dev/api", s, p, events.Event{Kind: events.Stated, Key: "dev/api", Aggregate: rollout.Kind, Phase: events.Deploy, Stored: now, Content: events.DriftMended{}})
				if !ok {
					break
				}
				if _, failed := f.Content.(events.DeploymentFailed); !failed {
					break
				}
				fold(f)
			}
			delete(open, s.Current.Rollout.ID)
			if len(open) > 0 {
				t.Errorf("never told: %v", open)
			}
		})
	}
}

// What prod bars is barred in test and in dev. A newer artifact comes to dev before test's fact is met there: it stays free.
func TestWhatANewerArtifactFreedIsNotBarredAgain(t *testing.T) {
	p := events.DefaultProject("shop")
	first := events.ArtifactBarred{Digest: artifact(1).Digest, Reason: "rolled back in prod"}
	dev := func(s rollout.State, sequence, cause uint64, from string, content any) (rollout.State, bool) {
		f, ok := rollout.Decide("dev/api", s, p, events.Event{Kind: events.Stated, Key: from, Phase: events.Deploy, Sequence: sequence, CauseSequence: cause, Stored: now, Content: content})
		if !ok {
			return s, false
		}
		return rollout.Evolve(s, events.Event{Key: "dev/api", Content: f.Content, CauseSequence: sequence, Time: now}), true
	}
	s, ok := dev(rollout.State{}, 10, 9, "prod/api", first)
	if !ok || len(s.Barred) != 1 {
		t.Fatalf("not barred in dev: %+v", s)
	}
	// 11 is the newer artifact, 13 is test's fact, of the same cause as dev's.
	if s, ok = dev(s, 11, 0, "c2", events.ArtifactPublished{Lemnis: artifact(2)}); !ok || len(s.Barred) != 0 {
		t.Fatalf("the newer artifact frees nothing: %+v", s)
	}
	if _, ok = dev(s, 13, 10, "test/api", first); ok {
		t.Errorf("barred again by what is older than the newer artifact: %+v", s)
	}
	if s, ok = dev(s, 20, 19, "prod/api", first); !ok || len(s.Barred) != 1 {
		t.Errorf("not barred by what is newer: %+v", s)
	}
}

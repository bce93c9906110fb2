package rollout_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/rollout"
	"github.com/lemnis/lemnis/services/deployer/rollout/rollouttest"
)

// Whatever comes in whatever order: nothing panics, a claim gets an answer, states are values that survive JSON, and
// facts of one rollout never follow its end.
func TestRandomHistories(t *testing.T) {
	keys := []string{"dev/api", "test/api", "prod/api"}
	rapid.Check(t, func(t *rapid.T) {
		clock := now
		p := events.DefaultProject("shop")
		p.Environments[1].Gate.Soak = events.Duration(time.Minute)
		p.Environments[1].Gate.Conditions = []events.Condition{{Name: "one", That: "true"}}
		switch rapid.IntRange(0, 2).Draw(t, "target") {
		case 0:
			p.Environments[2].Target, p.Environments[2].Strategy = events.OutsideTarget, ""
			p.Environments[2].Outside = &events.Outside{Owner: "local"}
		case 1:
			p.Environments[2].Strategy = events.BlueGreenStrategy
		}
		p.Repositories = []events.RepositoryRef{{Name: "api"}}
		p.Environments[2].Gate.Approvals = rapid.IntRange(0, 2).Draw(t, "approvals")
		s := &rollouttest.Stream{Project: p, Now: func() time.Time { return clock }}
		for range rapid.IntRange(1, 60).Draw(t, "length") {
			clock = clock.Add(time.Duration(rapid.IntRange(0, 1000).Draw(t, "seconds")) * time.Second)
			key := rapid.SampledFrom(keys).Draw(t, "key")
			environment, service := rollout.SplitKey(key)
			state := s.State(key)
			r := state.Current.Rollout
			if rapid.IntRange(0, 9).Draw(t, "stray") == 0 || r.ID == "" {
				r = events.Rollout{ID: "stray", Environment: environment, Service: service, Artifact: artifact(rapid.IntRange(1, 4).Draw(t, "artifact"))}
			}
			before, _ := json.Marshal(state)
			detail := events.ServiceDetail{Rollout: r}
			n := int64(rapid.IntRange(0, 300).Draw(t, "requests"))
			contents := []any{
				events.ArtifactPublished{Lemnis: artifact(rapid.IntRange(1, 4).Draw(t, "published"))},
				events.DeploymentRequested{Rollout: r}, events.ApprovalGiven{Environment: environment, Service: service, By: rapid.SampledFrom([]string{"ann", "bo", "cy"}).Draw(t, "by")},
				events.ApprovalRefused{Environment: environment, Service: service}, events.DeploymentPaused{Rollout: r}, events.DeploymentResumed{Rollout: r},
				events.DeploymentAborted{Rollout: r}, events.ServiceDeployed{Lemnis: detail}, events.ServiceUpgraded{Lemnis: detail},
				events.TestSuiteRunFinished{Outcome: rapid.SampledFrom([]string{events.Success, events.Success, events.Failure}).Draw(t, "outcome"), Lemnis: events.TestSuiteRunDetail{Rollout: r.ID}},
				events.ServicePublished{Lemnis: detail}, events.ServiceRolledback{Lemnis: detail}, events.DeploymentFailed{Rollout: r, Step: "start"},
				events.CanaryObserved{Rollout: r.ID, Tick: state.Tick + rapid.IntRange(0, 2).Draw(t, "tick"), Weight: 0.1, Elapsed: 1,
					Canary: events.Counts{Requests: n, Errors: n / 3}, Baseline: events.Counts{Requests: 2 * n, Errors: int64(rapid.IntRange(0, 5).Draw(t, "errors"))}},
				events.DeadlineReached{Aggregate: rollout.Kind, Key: key},
				events.GateEvaluated{Rollout: r, Passed: true, Checks: []events.Check{{Name: "conditions.one", Value: "x", Passed: n%2 == 0}}},
				events.IncidentDetected{Incident: incident("api", events.IncidentDetail{}), Lemnis: events.IncidentDetail{Rollout: rapid.SampledFrom([]string{"", r.ID, served(state)}).Draw(t, "cause")}},
				events.IncidentResolved{Incident: incident("api", events.IncidentDetail{})},
				events.SLOBurned{Environment: environment, Service: "web", Objective: "availability"},
			}
			i := rapid.IntRange(0, len(contents)-1).Draw(t, "content")
			kind := events.Result
			switch {
			case i == 0 || i > 15:
				kind = events.Stated
			case i < 7, i < 13 && i != 9 && rapid.Bool().Draw(t, "claimed"):
				kind = events.Claim
			}
			facts := s.Put(kind, key, "local", contents[i])
			if kind == events.Claim && len(facts) == 0 {
				t.Fatalf("%T got no answer", contents[i])
			}
			if after, _ := json.Marshal(state); !bytes.Equal(after, before) {
				t.Fatalf("an old state changed by %T", contents[i])
			}
		}
		ended := map[string]bool{}
		for _, f := range s.Facts() {
			id := ""
			switch c := f.Content.(type) {
			case events.DeploymentStarted:
				id = c.Rollout.ID
			case events.CanaryStepped:
				id = c.Rollout.ID
			case events.ServicePublished:
				id = c.Lemnis.Rollout.ID
			case events.DeploymentFailed:
				id = c.Rollout.ID
			}
			if ended[id] {
				t.Fatalf("%s of %s after its end", f.Type.Short(), id)
			}
			switch f.Content.(type) {
			case events.ServicePublished, events.DeploymentFailed:
				ended[id] = true
			}
		}
		for _, key := range keys {
			state := s.State(key)
			b, err := json.Marshal(state)
			var back rollout.State
			if err == nil {
				err = json.Unmarshal(b, &back)
			}
			if again, _ := json.Marshal(back); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%v: %s", err, b)
			}
		}
	})
}

func served(s rollout.State) string {
	if s.Serving == nil {
		return ""
	}
	return s.Serving.Rollout
}

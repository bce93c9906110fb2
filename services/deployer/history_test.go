package deployer

import (
	"fmt"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/internal/service/rulestest"
	"github.com/lemnis/lemnis/pkg/events"
)

func TestHistories(t *testing.T) {
	define := func() []service.Definition { return []service.Definition{New(Options{})} }
	p := events.DefaultProject("shop")
	p.Environments[2].Gate.Approvals = 1
	p.Environments[2].Canary = &events.CanaryPolicy{Deadline: events.Duration(30 * time.Second)}
	rulestest.Histories(t, p, define, map[string]rulestest.Play{"lap": lap, "lap-of-weights-to-40-percent": lap})
}

// lap is a version that gets to all users, and one that is taken back, as the deployer sees it. What the effects would report
// is put on the stream by hand.
func lap(t rulestest.T, s *rulestest.Stream) {
	t.Helper()
	artifact := func(n int) events.Event {
		digest := fmt.Sprintf("sha256:%064d", n)
		return rulestest.Fact(fmt.Sprintf("c%d", n), events.ArtifactPublished{Lemnis: events.ArtifactDetail{
			ID: fmt.Sprintf("pkg:oci/api@%d", n), Service: "api", Reference: "127.0.0.1:1/shop/api@" + digest, Digest: digest,
			Author: "bo", Change: fmt.Sprint("c", n), Evidence: &events.Evidence{Run: "r", Tests: 3, Coverage: 90},
		}})
	}
	done, weight := 0, 0.0
	work := func(canaryErrors int64) {
		t.Helper()
		for s.Run(t); done < len(s.Events); s.Run(t) {
			e := s.Events[done]
			done++
			if c, ok := e.Content.(events.CanaryStepped); ok {
				weight = c.Weight
			}
			if e.Kind == events.Stated {
				report(s, e, weight, canaryErrors)
			}
		}
	}
	approve := rulestest.Claim("prod/api", events.ApprovalGiven{Environment: "prod", Service: "api"})
	s.Add(artifact(1))
	work(0)
	s.Add(approve)
	work(0)
	s.Add(artifact(2))
	work(0)
	s.Add(approve)
	work(0)
	s.Add(artifact(3))
	work(0)
	s.Add(rulestest.Claim("prod/api", events.ApprovalRefused{Environment: "test", Service: "api"}))
	s.Add(approve)
	work(40)
	s.Add(artifact(4))
	work(0)
	s.Add(rulestest.Claim("prod/api", events.DeploymentAborted{Rollout: events.Rollout{Environment: "prod", Service: "api"}, Reason: "not today"}))
	work(0)
	for _, reached := range []bool{
		len(rulestest.Facts[events.ServicePublished](s)) > 6, len(rulestest.Facts[events.ServiceRolledback](s)) > 0,
		len(rulestest.Facts[events.CanaryJudged](s)) > 1, len(rulestest.Facts[events.ClaimRefused](s)) > 0, len(rulestest.Facts[events.DeploymentAborted](s)) > 0,
	} {
		if !reached {
			t.Fatalf("the lap does not reach what it is there for: %d published, %d taken back, %d judged, %d refused, %d aborted",
				len(rulestest.Facts[events.ServicePublished](s)), len(rulestest.Facts[events.ServiceRolledback](s)),
				len(rulestest.Facts[events.CanaryJudged](s)), len(rulestest.Facts[events.ClaimRefused](s)), len(rulestest.Facts[events.DeploymentAborted](s)))
		}
	}
}

// report puts on the stream what the effects find out about a fact.
func report(s *rulestest.Stream, fact events.Event, weight float64, canaryErrors int64) {
	add := func(content any) {
		e := rulestest.Result(events.Deploy, fact.Key, content)
		e.Chain = fact.Chain
		s.Add(e)
	}
	detail := func(r events.Rollout) (events.Reference, events.ServiceDetail) {
		return events.Reference{ID: r.Environment}, events.ServiceDetail{Rollout: r, URL: "http://127.0.0.1:1"}
	}
	test := func(r events.Rollout) {
		add(events.TestSuiteRunFinished{Environment: events.Reference{ID: r.Environment}, Outcome: events.Success, Lemnis: events.TestSuiteRunDetail{Rollout: r.ID}})
	}
	observe := func(rollout string, tick int) {
		add(events.CanaryObserved{
			Rollout: rollout, Tick: tick, Elapsed: float64(tick) * 120, Weight: weight,
			Canary: events.Counts{Requests: 400, Errors: canaryErrors}, Baseline: events.Counts{Requests: 4000},
		})
	}
	switch c := fact.Content.(type) {
	case events.DeploymentStarted:
		if environment, d := detail(c.Rollout); c.Rollout.Previous == nil {
			add(events.ServiceDeployed{Environment: environment, Lemnis: d})
		} else {
			add(events.ServiceUpgraded{Environment: environment, Lemnis: d})
		}
	case events.ServiceDeployed:
		test(c.Lemnis.Rollout)
	case events.ServiceUpgraded:
		test(c.Lemnis.Rollout)
	case events.CanaryStepped:
		if environment, d := detail(c.Rollout); c.Weight == 1 {
			add(events.ServicePublished{Environment: environment, Lemnis: d})
		} else {
			observe(c.Rollout.ID, 1)
		}
	case events.CanaryObserved:
		if c.Tick < 40 {
			observe(c.Rollout, c.Tick+1)
		}
	case events.CanaryJudged:
		if _, d := detail(c.Rollout); c.Verdict == events.Rollback {
			d.Reason = c.Reason
			add(events.ServiceRolledback{Lemnis: d})
		}
	case events.DeploymentAborted:
		_, d := detail(c.Rollout)
		add(events.ServiceRolledback{Lemnis: d})
	}
}

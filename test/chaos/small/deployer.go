package small

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/gate"
)

// verify has nothing to look up: no gate of a lap asks for what only the registry, a key or users could tell.
func (w work) verify(_ context.Context, job *service.Job) error {
	if c, ok := job.Event.Content.(events.GateEvaluated); !ok || gate.Looks(c) {
		return events.Reject(fmt.Errorf("%T asks for a look-up, which has no small form", job.Event.Content))
	}
	return nil
}

// place runs the artifact beside the one that serves.
func (w work) place(ctx context.Context, job *service.Job) error {
	c, ok := job.Event.Content.(events.DeploymentStarted)
	if !ok {
		return events.Reject(fmt.Errorf("%T asks for no process", job.Event.Content))
	}
	began := time.Now()
	if err := w.pause(ctx); err != nil {
		return err
	}
	r := c.Rollout
	detail := events.ServiceDetail{Rollout: r, Seconds: time.Since(began).Seconds()}
	environment := events.Reference{ID: r.Environment}
	var content any = events.ServiceDeployed{Environment: environment, ArtifactID: r.Artifact.ID, Lemnis: detail}
	if r.Previous != nil {
		content = events.ServiceUpgraded{Environment: environment, ArtifactID: r.Artifact.ID, Lemnis: detail}
	}
	return job.Report(ctx, service.Report{Content: content, SubjectID: r.Service, Phase: events.Deploy})
}

// again runs what users are taken back to, beside place.
func (w work) again(ctx context.Context, job *service.Job) error {
	if c, ok := job.Event.Content.(events.DeploymentStarted); !ok || !c.Rollout.Back {
		return nil
	}
	return w.place(ctx, job)
}

// test runs the runtime tests.
func (w work) test(ctx context.Context, job *service.Job) error {
	var r events.Rollout
	switch c := job.Event.Content.(type) {
	case events.ServiceDeployed:
		r = c.Lemnis.Rollout
	case events.ServiceUpgraded:
		r = c.Lemnis.Rollout
	default:
		return events.Reject(fmt.Errorf("%T asks for no tests", job.Event.Content))
	}
	if err := w.pause(ctx); err != nil {
		return err
	}
	return job.Report(ctx, service.Report{SubjectID: r.ID + "/runtime", Phase: events.Deploy, Content: events.TestSuiteRunFinished{
		Environment: events.Reference{ID: r.Environment}, Outcome: events.Success,
		TestSuite: &events.TestSuite{ID: "runtime", Name: "runtime tests of " + r.Environment},
		Lemnis: events.TestSuiteRunDetail{Kind: "runtime", Rollout: r.ID, Artifact: &r.Artifact,
			Cases: []events.TestCaseResult{{Name: "smoke", Kind: "smoke", Passed: true}}},
	}})
}

// users that a canary meets in one tick; enough of them for a verdict.
const users = 20_000

// shift moves users. At a part of them it counts one tick, which is enough for the next step or the verdict.
func (w work) shift(ctx context.Context, job *service.Job) error {
	c, ok := job.Event.Content.(events.CanaryStepped)
	if !ok {
		return events.Reject(fmt.Errorf("%T moves no users", job.Event.Content))
	}
	began := time.Now()
	if err := w.pause(ctx); err != nil {
		return err
	}
	r := c.Rollout
	if c.Weight >= 1 {
		return job.Report(ctx, service.Report{SubjectID: r.Service, Phase: events.Deploy, Content: events.ServicePublished{
			Environment: events.Reference{ID: r.Environment},
			Lemnis:      events.ServiceDetail{Rollout: r, Reason: c.Reason, Seconds: time.Since(began).Seconds()},
		}})
	}
	seen := events.CanaryObserved{Rollout: r.ID, Tick: c.Step, Elapsed: float64(c.Step), Weight: c.Weight}
	seen.Canary.Requests = int64(c.Weight * users)
	seen.Baseline.Requests = users - seen.Canary.Requests
	if kindOf(r.Artifact.Title) == Bad {
		seen.Canary.Errors = seen.Canary.Requests / 5
	}
	return job.Report(ctx, service.Report{Content: seen, Once: strconv.Itoa(c.Step), Phase: events.Deploy})
}

// undo takes a rollout back whose canary was judged bad; others have moved no users.
func (w work) undo(ctx context.Context, job *service.Job) error {
	c, ok := job.Event.Content.(events.CanaryJudged)
	if !ok || c.Verdict != events.Rollback {
		return nil
	}
	began := time.Now()
	if err := w.pause(ctx); err != nil {
		return err
	}
	r := c.Rollout
	done := events.ServiceRolledback{Environment: events.Reference{ID: r.Environment},
		Lemnis: events.ServiceDetail{Rollout: r, Reason: c.Reason, Seconds: time.Since(began).Seconds()}}
	if r.Previous != nil {
		done.ArtifactID = r.Previous.Artifact.ID
	}
	return job.Report(ctx, service.Report{Content: done, SubjectID: r.Service, Phase: events.Deploy})
}

// retire has nothing to end: nothing runs.
func (w work) retire(context.Context, *service.Job) error { return nil }

package deployer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/condition"
	"github.com/lemnis/lemnis/internal/excerpt"
	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/licence"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/keeper"
	"github.com/lemnis/lemnis/services/deployer/rollout"
	"github.com/lemnis/lemnis/services/deployer/runtimetest"
)

// test runs the runtime tests on the instance itself, before any user reaches it.
func (d *deployer) test(ctx context.Context, job *service.Job) error {
	var r events.Rollout
	switch c := job.Event.Content.(type) {
	case events.ServiceDeployed:
		r = c.Lemnis.Rollout
	case events.ServiceUpgraded:
		r = c.Lemnis.Rollout
	}
	if r.ID == "" || r.Target == events.OutsideTarget || !job.Project.Runs(events.Deploy) {
		return nil
	}
	s, where, err := d.begin(ctx, job)
	if s == nil {
		return err
	}
	if state, _ := d.wanted.get(where); state.Current.Rollout.ID != r.ID || state.Stage != rollout.Placed {
		return nil
	}
	if err != nil && !s.beside(ctx, where) {
		if reason := lost(ctx, job, r, err); reason != "" {
			return job.Report(ctx, service.Report{Content: events.DeploymentFailed{Rollout: r, Step: "test", Reason: reason}, Phase: events.Deploy})
		}
		return err
	}
	instance, ok, err := s.instance(ctx, where, r)
	switch {
	case err != nil:
		return err
	case !ok && job.Tries >= patience:
		return job.Report(ctx, service.Report{Content: events.DeploymentFailed{Rollout: r, Step: "test", Reason: "its process is not there"}, Phase: events.Deploy})
	case !ok: // it is started again when that is seen
		return fmt.Errorf("test %s: its process is not there", r.ID)
	}
	suite := d.suite(ctx, job.Project, r.Environment, r.Service)
	if supply := r.Artifact.Supply; supply != nil {
		suite.Licences.Billed, suite.Licences.Unlicensed = supply.Licenses, supply.Unlicensed
	}
	compliant, err := s.compliance(ctx, job, r) // first: where the registry is away nothing else is done for nothing
	if err != nil {
		return err
	}
	results := append(runtimetest.Run(ctx, instance, suite), compliant...)
	for _, one := range results {
		if one.Unisolated != "" {
			d.exposed.Do(func() {
				d.options.Log(executor.Exposed("commands of runtime tests", "deployer"), "reason", one.Unisolated)
			})
		}
	}
	state, _ := d.wanted.get(where)
	if fresh, is := compared(state, r); is {
		// It is asked the same, so that both have served as much when they meet their first users. What it answers is no news: it is
		// the version that serves.
		if beside, ok, err := s.instance(ctx, where, fresh); err == nil && ok {
			suite.Commands = nil // they may take long, and have nothing to say of it
			runtimetest.Run(ctx, beside, suite)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return told(ctx, job, r, finished(r, results))
}

// told reports how the tests ended. Where that can not be published, now or later, the rollout fails: it would wait for its tests for ever.
func told(ctx context.Context, job *service.Job, r events.Rollout, outcome events.TestSuiteRunFinished) error {
	err := job.Report(ctx, service.Report{Content: outcome, SubjectID: r.ID + "/runtime", Phase: events.Deploy})
	if events.Rejected(err) {
		reason := "its tests ended in " + outcome.Outcome + ", which can not be published: " + excerpt.Of(err.Error(), mostReason)
		return job.Report(ctx, service.Report{Content: events.DeploymentFailed{Rollout: r, Step: "test", Reason: reason}, Phase: events.Deploy})
	}
	return err
}

// compliance are the tests of what the process itself does not show: the signature that the gate asks for, and the configuration.
func (s *site) compliance(ctx context.Context, job *service.Job, r events.Rollout) (results []runtimetest.Result, err error) {
	add := func(name, reason string, began time.Time, err error) {
		one := runtimetest.Result{Kind: runtimetest.Compliance, Name: name, Passed: err == nil, Reason: reason, Took: time.Since(began)}
		if err != nil {
			one.Reason = err.Error()
		}
		results = append(results, one)
	}
	policy, _ := job.Project.Environment(r.Environment)
	if policy.Gate.Signature != "" {
		began, err := time.Now(), s.verify(ctx, job.Project, r.Environment, r.Artifact, nil)
		if err != nil && (ctx.Err() != nil || job.Tries < patience && !errors.Is(err, errArtifact)) {
			return nil, err // the registry may be back soon
		}
		add("signature", "a key that the project trusts signed where it comes from", began, err)
	}
	if policy.Runtime == nil {
		return results, nil
	}
	for _, c := range policy.Runtime.Policy {
		began := time.Now()
		holds, err := condition.Complies(ctx, c, job.Project, r)
		if err == nil && !holds {
			err = fmt.Errorf("it does not hold: %s", c.That)
		}
		add("policy."+c.Name, c.That, began, err)
	}
	return results, nil
}

// compared is the fresh baseline of a rollout, as one of its own; another rollout may have come while this one was tested.
func compared(s rollout.State, r events.Rollout) (events.Rollout, bool) {
	if s.Baseline == "" || s.Current.Rollout.ID != r.ID || r.Previous == nil {
		return events.Rollout{}, false
	}
	r.Process, r.ID, r.Artifact = "", s.Baseline, r.Previous.Artifact
	return r, true
}

// instance describes the process of a rollout for the tests; ok is false when there is none.
func (s *site) instance(ctx context.Context, where at, r events.Rollout) (runtimetest.Instance, bool, error) {
	p, err := s.place(ctx, where)
	if err != nil {
		return runtimetest.Instance{}, false, err
	}
	file, err := s.executable(ctx, r.Artifact)
	if err != nil {
		return runtimetest.Instance{}, false, err
	}
	if err := p.mu.take(ctx); err != nil {
		return runtimetest.Instance{}, false, err
	}
	running := p.instances[r.Runs()]
	p.mu.free()
	if running == nil {
		return runtimetest.Instance{}, false, nil
	}
	process, err := s.front.Process(ctx, where.String(), r.Runs())
	if _, refused := errors.AsType[*keeper.Refusal](err); refused {
		return runtimetest.Instance{}, false, nil
	}
	return runtimetest.Instance{URL: process.URL, Port: process.Port, PID: process.PID, Executable: file, Digest: r.Artifact.Digest}, err == nil, err
}

// suite is what the tests of an environment demand: more from environment to environment, but for what the project chose.
func (d *deployer) suite(ctx context.Context, p events.Project, environment, service string) runtimetest.Suite {
	policy, place := p.Environment(environment)
	chosen := events.RuntimeTests{}
	if policy.Runtime != nil {
		chosen = *policy.Runtime
	}
	paths := chosen.Paths
	if len(paths) == 0 {
		paths = []string{"/healthz"}
	}
	var suite runtimetest.Suite
	switch {
	case place <= 0:
		suite = runtimetest.Dev(paths[0])
	case place == 1:
		suite = runtimetest.Test(paths[0])
	default:
		suite = runtimetest.Prod(paths[0])
	}
	suite.Smoke.Paths = paths
	if chosen.P99 > 0 {
		suite.Latency.P99 = time.Duration(chosen.P99)
		suite.Latency.P50 = min(suite.Latency.P50, suite.Latency.P99)
	}
	if chosen.Requests > 0 {
		suite.Latency.Requests = chosen.Requests
	}
	if len(chosen.Licenses) > 0 {
		suite.Licences.Allow = chosen.Licenses
		suite.Licences.AllowUnknown = slices.Contains(chosen.Licenses, "NOASSERTION") || suite.Licences.AllowUnknown // SPDX's word for one that is not known
	}
	suite.Licences.ModuleCache = cmp.Or(d.options.ModuleCache, licence.Cache(ctx))
	if d.options.OSV != "" && len(policy.Gate.Vulnerabilities) > 0 {
		suite.Vulnerabilities = &runtimetest.Vulnerabilities{Database: d.options.OSV, Most: policy.Gate.Vulnerabilities}
	}
	if len(chosen.Headers) > 0 {
		suite.Headers.Require = map[string]string{}
		for _, h := range chosen.Headers {
			name, value, _ := strings.Cut(h, ":")
			suite.Headers.Require[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	if len(chosen.Harmless) > 0 {
		suite.Secrets = &runtimetest.Secrets{Harmless: chosen.Harmless}
	}
	if chosen.Contract != "" {
		suite.Contract = &runtimetest.Contract{Path: chosen.Contract, Must: true}
	}
	if len(chosen.TLS) > 0 {
		suite.TLS = &runtimetest.TLS{Addresses: chosen.TLS, Allow: d.options.Allow}
	}
	suite.Host = runtimetest.Host{Process: d.host, Hidden: d.hidden()}
	for _, c := range chosen.Commands {
		suite.Commands = append(suite.Commands, runtimetest.Command{Name: c.Name, Kind: runtimetest.Kind(c.Kind), Run: c.Run,
			JUnit: c.JUnit, SARIF: c.SARIF, Level: c.Level, Timeout: time.Duration(c.Timeout)})
	}
	if counted := metered(p, environment, service); len(counted) > 0 {
		suite.Metrics = &runtimetest.Metrics{Counted: counted}
	}
	return suite
}

// hidden is what the deployer has for itself, should it lie in what commands see of the machine.
func (d *deployer) hidden() []string {
	var all []string
	for _, path := range append([]string{d.options.Data, d.options.SecretsDir}, d.options.Private...) {
		if at, err := filepath.Abs(path); err == nil && path != "" {
			all = append(all, at)
		}
	}
	return all
}

const (
	mostCases   = 100     // that an event lists; a project can have 82
	mostName    = 200     // bytes of the name of one
	mostReason  = 2000    // bytes of the reason of one
	mostReasons = 100_000 // bytes of the reasons of all; JSON may write six for one
	mostFailed  = 8000    // bytes of what failed, put together, beyond which no more are named
)

// finished is the outcome of the tests as an event. What services and their tests say may be of any length, and an event may not.
func finished(r events.Rollout, results []runtimetest.Result) events.TestSuiteRunFinished {
	c := events.TestSuiteRunFinished{
		Environment: events.Reference{ID: r.Environment}, Outcome: events.Success,
		TestSuite: &events.TestSuite{ID: "runtime", Name: "runtime tests of " + r.Environment},
		Lemnis:    events.TestSuiteRunDetail{Kind: "runtime", Rollout: r.ID, Artifact: &r.Artifact, Values: map[string]float64{}},
	}
	var failed []string
	count, said := 0, 0 // of those that failed, and the bytes of those that the reason names
	for _, one := range results {
		name, reason := excerpt.Of(one.Name, mostName), excerpt.Of(one.Reason, min(mostReason, mostReasons/len(results)))
		result := events.TestCaseResult{Name: name, Kind: string(one.Kind), Passed: one.Passed, Reason: reason, Seconds: one.Took.Seconds()}
		if one.Unisolated != "" {
			result.Reason += "; NOT ISOLATED: " + excerpt.Of(one.Unisolated, mostName)
		}
		if len(c.Lemnis.Cases) < mostCases {
			c.Lemnis.Cases = append(c.Lemnis.Cases, result)
			for _, value := range slices.Sorted(maps.Keys(one.Values)) {
				c.Lemnis.Values[name+"."+value] = one.Values[value]
			}
		}
		if one.Passed {
			continue
		}
		if count++; said < mostFailed {
			failed = append(failed, fmt.Sprintf("%s %s: %s", one.Kind, name, reason))
			said += len(failed[len(failed)-1])
		}
	}
	if more := count - len(failed); more > 0 {
		failed = append(failed, fmt.Sprintf("and %d more", more))
	}
	if count > 0 || len(results) == 0 {
		c.Outcome, c.Severity, c.Reason = events.Failure, "high", strings.Join(failed, "; ")
	}
	return c
}

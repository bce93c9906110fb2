package deployer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/lemnis/lemnis/internal/condition"
	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/gate"
	"github.com/lemnis/lemnis/services/deployer/proxy"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

// verify looks up what a gate does not take anybody's word for: the artifact at the registry, its signature, what users met
// of it in the environment before, and the project's conditions. It reports a check each; the rollout decides.
func (d *deployer) verify(ctx context.Context, job *service.Job) error {
	c, ok := job.Event.Content.(events.GateEvaluated)
	if !ok || !gate.Looks(c) || !job.Project.Runs(events.Deploy) {
		return nil
	}
	s, err := d.use(ctx)
	if err != nil {
		return err
	}
	if err := d.wanted.reach(ctx, job.Event); err != nil {
		return err
	}
	where := at{job.Event.Project, job.Event.Key}
	state, _ := d.wanted.get(where)
	if state.Current.Rollout.ID != c.Rollout.ID || state.Stage != rollout.Verifying {
		return nil
	}
	_, place := job.Project.Environment(c.Rollout.Environment)
	l := &lookup{site: s, project: job.Project, policy: job.Project.Gate(place), request: state.Current, patient: job.Tries < patience, now: job.Event.Stored}
	checks, err := l.checks(ctx)
	if err != nil {
		return err
	}
	return job.Report(ctx, service.Report{Content: events.GateEvaluated{Rollout: c.Rollout, Checks: checks}, Phase: events.Deploy})
}

// lookup is one look at everything that a gate asks to be looked up.
type lookup struct {
	site    *site
	project events.Project
	policy  events.Gate
	request rollout.Request
	patient bool // what may pass by itself is tried again
	now     time.Time
}

func (l *lookup) checks(ctx context.Context) ([]events.Check, error) {
	var checks []events.Check
	r := l.request.Rollout
	check := func(name, value, evidence string, err error) error {
		if err != nil && (ctx.Err() != nil || l.patient && !errors.Is(err, errArtifact)) {
			return err
		}
		if err != nil {
			value = err.Error()
		}
		checks = append(checks, events.Check{Name: name, Value: value, Passed: err == nil, Evidence: evidence})
		return nil
	}
	if err := check(gate.Artifact, r.Artifact.Digest, r.Artifact.Reference, l.site.registered(ctx, r.Artifact)); err != nil {
		return nil, err
	}
	if supply := r.Artifact.Supply; l.policy.Signature != "" && supply != nil {
		err := l.site.verify(ctx, l.project, r.Environment, r.Artifact, l.project.Repositories)
		if err := check(gate.Signature, "verified: signed by "+supply.Key, supply.Provenance, err); err != nil {
			return nil, err
		}
	}
	before, evidence, err := l.before(ctx)
	if err != nil {
		return nil, err
	}
	if b := l.policy.Before; b != nil {
		checks = append(checks, judged(*b, before, evidence)...)
	}
	facts := condition.Of(r, l.now)
	facts.Before = before
	for _, c := range l.policy.Conditions {
		holds, err := condition.Holds(ctx, c, facts)
		value := fmt.Sprint(holds)
		if err != nil {
			value = err.Error()
		}
		checks = append(checks, events.Check{Name: gate.Condition(c.Name), Value: value, Passed: holds, Evidence: r.Artifact.Reference})
	}
	return checks, nil
}

// registered makes sure that the registry has the artifact under the digest that the pipeline stated.
func (s *site) registered(ctx context.Context, a events.ArtifactDetail) error {
	ref, err := s.reference(a.Reference)
	if err != nil {
		return fmt.Errorf("%w: %w", errArtifact, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.FetchTimeout)
	defer cancel()
	found, err := oci.Inspect(ctx, ref, s.options.OCI...)
	switch {
	case errors.Is(err, oci.ErrDigest), errors.Is(err, oci.ErrNotFound), errors.Is(err, oci.ErrNotExecutable), errors.Is(err, oci.ErrBadReference):
		return fmt.Errorf("%w: %w", errArtifact, err)
	case err != nil:
		return err
	case found.Layer != a.Digest:
		return fmt.Errorf("%w: %s holds %s, not %s", errArtifact, a.Reference, found.Layer, a.Digest)
	}
	return nil
}

// before is what users met of the artifact in the environment before, since it was counted there; evidence says what was
// counted. Another artifact's counts are no evidence.
func (l *lookup) before(ctx context.Context) (condition.Before, string, error) {
	from := l.request.Promotion.Environment
	if from == "" {
		return condition.Before{}, "", nil
	}
	out := condition.Before{Environment: from, Soaked: l.now.Sub(l.request.Since).Seconds()}
	where := at{l.project.Name, rollout.Key(from, l.request.Rollout.Service)}
	serving := l.site.wanted.running(where).stable
	if serving == nil || serving.artifact.Digest != l.request.Rollout.Artifact.Digest {
		return out, "another artifact serves " + from + " by now", nil
	}
	p, err := l.site.place(ctx, where)
	if err != nil {
		return out, "", err
	}
	snapshot, err := p.front.Snapshot(ctx, where.String())
	if err != nil {
		return out, "", err
	}
	counts := snapshot.Versions[serving.id]
	out.Requests = counts.Requests
	if counts.Requests > 0 {
		out.Errors = float64(counts.Errors) / float64(counts.Requests)
		out.P99 = quantile(counts.Buckets, 0.99)
	}
	return out, fmt.Sprintf("rollout %s, counted since %s", serving.id, snapshot.Since.UTC().Format(time.RFC3339)), nil
}

// quantile is the upper bound, in seconds, of the latency bucket that holds it; +Inf above all of them.
func quantile(buckets []int64, q float64) float64 {
	var total, seen int64
	for _, n := range buckets {
		total += n
	}
	for i, n := range buckets {
		if seen += n; float64(seen) >= q*float64(total) && i < len(proxy.Bounds) {
			return proxy.Bounds[i]
		}
	}
	return math.Inf(1)
}

// judged compares what was counted with its bounds. With too few requests it says nothing about the rest.
func judged(b events.Before, counted condition.Before, evidence string) []events.Check {
	enough := counted.Requests >= int64(b.Least())
	all := []events.Check{{Name: gate.BeforeRequests, Value: fmt.Sprint(counted.Requests), Passed: enough, Evidence: evidence}}
	add := func(name, value string, ok bool) {
		if !enough {
			value, ok = "too few requests", false
		}
		all = append(all, events.Check{Name: name, Value: value, Passed: ok, Evidence: evidence})
	}
	if b.Errors != nil {
		add(gate.BeforeErrors, fmt.Sprintf("%.4g %%", 100*counted.Errors), counted.Errors <= float64(*b.Errors))
	}
	if b.P99 > 0 {
		limit := time.Duration(b.P99).Seconds()
		add(gate.BeforeP99, fmt.Sprintf("at most %.4g s", counted.P99), counted.P99 <= limit)
	}
	return all
}

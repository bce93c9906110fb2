package deployer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/keeper"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

// patience is how many attempts a failure gets that may pass by itself, such as an unreachable registry.
const patience = 5

// begin waits for the site and for the fact that asked, and makes the place what the facts say. A place that hangs does not hold up
// the effects of others for longer than a turn lasts.
func (d *deployer) begin(ctx context.Context, job *service.Job) (*site, at, error) {
	return d.beginBy(ctx, job, (*site).converge)
}

func (d *deployer) beginBy(ctx context.Context, job *service.Job, converge func(*site, context.Context, at) error) (*site, at, error) {
	where := at{job.Event.Project, job.Event.Key}
	s, err := d.use(ctx)
	if err != nil {
		return nil, where, err
	}
	if err := d.wanted.reach(ctx, job.Event); err != nil {
		return nil, where, err
	}
	turn, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	err = converge(s, turn, where)
	return s, where, err
}

// beside reports whether a candidate runs with all that it needs, whatever runs of the others.
func (s *site) beside(ctx context.Context, where at) bool {
	s.mu.Lock()
	p := s.places[where]
	s.mu.Unlock()
	want := s.wanted.running(where)
	if p == nil || want.candidate == nil || want.weight > 0 {
		return false
	}
	if p.mu.take(ctx) != nil {
		return false
	}
	defer p.mu.free()
	for _, v := range []*version{want.candidate, want.baseline} {
		if v != nil && (p.instances[v.id] == nil || p.instances[v.id].ended != nil) {
			return false
		}
	}
	return true
}

// lost says why a rollout can not go on after a failed attempt; empty when another attempt may help.
func lost(ctx context.Context, job *service.Job, r events.Rollout, err error) string {
	s := hindered(err, r)
	if ctx.Err() != nil || errors.Is(err, keeper.ErrGone) || errors.Is(err, keeper.ErrHangs) || s == nil { // the front's fault is not the version's
		return ""
	}
	if errors.Is(s.err, errArtifact) || errors.Is(s.err, errStart) || job.Tries >= patience {
		return s.err.Error()
	}
	return ""
}

// place runs the artifact beside the one that serves.
func (d *deployer) place(ctx context.Context, job *service.Job) error {
	c, ok := job.Event.Content.(events.DeploymentStarted)
	if !ok || !job.Project.Runs(events.Deploy) || c.Rollout.Target == events.OutsideTarget {
		return nil
	}
	began := time.Now()
	s, where, err := d.begin(ctx, job)
	if s == nil {
		return err
	}
	if state, _ := d.wanted.get(where); state.Current.Rollout.ID != c.Rollout.ID || state.Stage != rollout.Starting {
		return nil // aborted meanwhile, or done by an earlier attempt
	}
	if err != nil && !s.beside(ctx, where) {
		if reason := lost(ctx, job, c.Rollout, err); reason != "" {
			return job.Report(ctx, service.Report{Content: events.DeploymentFailed{Rollout: c.Rollout, Step: "start", Reason: reason}, Phase: events.Deploy})
		}
		return err
	}
	detail := events.ServiceDetail{Rollout: c.Rollout, Seconds: time.Since(began).Seconds()}
	environment := events.Reference{ID: c.Rollout.Environment}
	var content any = events.ServiceDeployed{Environment: environment, ArtifactID: c.Rollout.Artifact.ID, Lemnis: detail}
	if c.Rollout.Previous != nil {
		content = events.ServiceUpgraded{Environment: environment, ArtifactID: c.Rollout.Artifact.ID, Lemnis: detail}
	}
	return job.Report(ctx, service.Report{Content: content, SubjectID: c.Rollout.Service, Phase: events.Deploy})
}

// placeBack is place for what users are taken back to.
func (d *deployer) placeBack(ctx context.Context, job *service.Job) error {
	if c, ok := job.Event.Content.(events.DeploymentStarted); !ok || !c.Rollout.Back {
		return nil
	}
	return d.place(ctx, job)
}

// letGo ends what was kept to go back to.
func (d *deployer) letGo(ctx context.Context, job *service.Job) error {
	if !job.Project.Runs(events.Deploy) {
		return nil
	}
	_, _, err := d.begin(ctx, job)
	if _, ok := errors.AsType[*startError](err); ok {
		return nil // the business of its own effects
	}
	return err
}

// undo takes a rollout back that ended badly: its users, and its process in its own time.
func (d *deployer) undo(ctx context.Context, job *service.Job) error {
	var r events.Rollout
	var reason string
	switch c := job.Event.Content.(type) {
	case events.CanaryJudged:
		if c.Verdict != events.Rollback {
			return nil
		}
		r, reason = c.Rollout, c.Reason
	case events.DeploymentFailed:
		r, reason = c.Rollout, c.Reason
	case events.DeploymentAborted:
		r, reason = c.Rollout, c.Reason
		if reason == "" {
			reason = fmt.Sprintf("aborted by %s", c.By)
		}
	default:
		return nil
	}
	if !job.Project.Runs(events.Deploy) || r.Target == events.OutsideTarget {
		return nil
	}
	began := time.Now()
	s, where, err := d.beginBy(ctx, job, (*site).back)
	if s == nil {
		return err
	}
	state, _ := d.wanted.get(where)
	if state.Current.Rollout.ID != r.ID || state.Stage != rollout.Undoing {
		// No users had been moved. A candidate in flight now is the business of its own effects.
		if hindered(err, state.Current.Rollout) != nil {
			return nil //nolint:nilerr // it is that rollout's own
		}
		return err
	}
	if err != nil {
		return err
	}
	done := events.ServiceRolledback{Environment: events.Reference{ID: r.Environment}, Lemnis: events.ServiceDetail{
		Rollout: r, Reason: reason, Seconds: time.Since(began).Seconds(),
	}}
	if place, err := s.place(ctx, where); err == nil {
		done.Lemnis.URL = place.url
	}
	if r.Previous != nil {
		done.ArtifactID = r.Previous.Artifact.ID
	}
	return job.Report(ctx, service.Report{Content: done, SubjectID: r.Service, Phase: events.Deploy})
}

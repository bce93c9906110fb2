package lap

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/pkg/events"
)

// deliver waits until the good change serves all users of the last environment.
func (l *Lap) deliver(ctx context.Context) error {
	artifact, err := l.published(ctx, func(d events.ArtifactDetail) bool { return d.Change == l.subject.Good.ID })
	if err != nil {
		return err
	}
	if err := l.through(ctx, artifact); err != nil {
		return err
	}
	_, err = l.journal.find(ctx, "the item to be closed", is(func(e events.Event, _ events.TicketClosed) bool { return e.Key == l.item }))
	if err == nil {
		l.tell("what the users asked for has reached them: the item is closed")
	}
	return err
}

// failedRollout says that a rollout ended without its users.
type failedRollout struct{ environment, step, reason string }

func (f *failedRollout) Error() string {
	return fmt.Sprintf("the rollout to %s failed at its %s: %s", f.environment, f.step, f.reason)
}

// through follows an artifact through all environments until it serves all users of the last.
func (l *Lap) through(ctx context.Context, a events.ArtifactDetail) error {
	for _, environment := range l.subject.Project.Environments {
		end, err := l.into(ctx, a, environment.Name)
		if err != nil {
			return err
		}
		published, ok := end.Content.(events.ServicePublished)
		if !ok {
			judged, _ := end.Content.(events.CanaryJudged)
			return fmt.Errorf("it is taken back in %s: %s", environment.Name, judged.Reason)
		}
		l.url = published.Lemnis.URL
		l.tell("%s: serves all users at %s", environment.Name, l.url)
	}
	return nil
}

// into follows an artifact into one environment, gives the approvals that are asked for, and returns the fact that it
// serves all users there, or the verdict that it shall not.
func (l *Lap) into(ctx context.Context, a events.ArtifactDetail, environment string) (events.Event, error) {
	ours := func(r events.Rollout) bool {
		return r.Environment == environment && r.Service == l.subject.Service && r.Artifact.Digest == a.Digest
	}
	approved := map[string]bool{}
	defer l.quiet()
	return l.journal.find(ctx, fmt.Sprintf("%s to serve all users of %s", l.subject.Service, environment), func(e events.Event) (bool, error) {
		if e.Kind != events.Stated {
			return false, nil
		}
		switch c := e.Content.(type) {
		case events.GateEvaluated:
			if ours(c.Rollout) && c.Passed {
				l.tell("%s: gate open, %d checks%s", environment, len(c.Checks), signature(c.Checks))
			}
		case events.ApprovalRequested:
			if ours(c.Rollout) && !approved[c.Rollout.ID] {
				approved[c.Rollout.ID] = true
				return false, l.approve(ctx, c.Rollout, e.Chain)
			}
		case events.TestSuiteRunFinished:
			if c.Environment.ID == environment && c.Lemnis.Artifact != nil && c.Lemnis.Artifact.Digest == a.Digest && c.Outcome == events.Success {
				l.tell("%s: %d runtime tests passed", environment, len(c.Lemnis.Cases))
			}
		case events.CanaryStepped:
			if ours(c.Rollout) && c.Weight < 1 {
				l.busy() // a verdict rests on traffic
				l.tell("%s: %.0f %% of the users; %s", environment, 100*c.Weight, c.Reason)
			}
		case events.CanaryJudged:
			if ours(c.Rollout) {
				l.tell("%s: %s; %s", environment, c.Verdict, c.Reason)
				return c.Verdict == events.Rollback, nil
			}
		case events.DeploymentFailed:
			if ours(c.Rollout) {
				return false, &failedRollout{environment, c.Step, c.Reason}
			}
		case events.DeploymentAborted:
			if ours(c.Rollout) {
				return false, &failedRollout{environment, "end", "aborted by " + c.By}
			}
		case events.ServicePublished:
			return ours(c.Lemnis.Rollout), nil
		}
		return false, nil
	})
}

// signature says by which key the artifact is signed, where a gate asks for that.
func signature(checks []events.Check) string {
	for _, c := range checks {
		if c.Name == "signature" {
			return "; " + c.Value
		}
	}
	return ""
}

func (l *Lap) approve(ctx context.Context, r events.Rollout, chain string) error {
	who, client, err := l.person(ctx, approver)
	if err != nil {
		return err
	}
	_, err = l.claim(ctx, said{id: "approve-" + r.ID, about: r.ID, chain: chain, by: client, content: events.ApprovalGiven{
		Environment: r.Environment, Service: r.Service, Rollout: r.ID, By: who, Reason: "the figures look good"}})
	if err == nil {
		l.tell("%s: %s lets it in", r.Environment, approver)
	}
	return err
}

// fail delivers the bad change, which has to be caught at a part of the users.
func (l *Lap) fail(ctx context.Context) error {
	bad := l.subject.Bad
	if err := l.propose(ctx, bad, l.wish); err != nil {
		return err
	}
	artifact, err := l.merged(ctx, bad)
	if err != nil {
		return err
	}
	last := len(l.subject.Project.Environments) - 1
	lastName := l.subject.Project.Environments[last].Name
	if l.subject.Break != nil {
		l.tell("this change is not bad by itself: the proxy will fail a part of its requests in %s, on purpose", lastName)
		l.subject.Break(lastName, artifact.Digest)
	}
	for i, environment := range l.subject.Project.Environments {
		end, err := l.into(ctx, artifact, environment.Name)
		if err != nil {
			return err
		}
		_, served := end.Content.(events.ServicePublished)
		switch {
		case i == last && served:
			return errors.New("the bad change was not caught: it serves all users")
		case i == last:
			return l.repair(ctx, end)
		case !served:
			return fmt.Errorf("it was caught in %s already, where no users are", environment.Name)
		}
	}
	return errors.New("the project has no environment")
}

// repair waits for all that has to follow from a bad verdict.
func (l *Lap) repair(ctx context.Context, verdict events.Event) error {
	judged, _ := verdict.Content.(events.CanaryJudged)
	rollout := judged.Rollout.ID
	detected, err := l.journal.find(ctx, "the incident", is(func(_ events.Event, c events.IncidentDetected) bool { return c.Lemnis.Rollout == rollout }))
	if err != nil {
		return err
	}
	l.incident = detected
	if c, ok := detected.Content.(events.IncidentDetected); ok {
		l.tell("incident: %d requests met the fault of “%s”", c.Lemnis.Exposed, c.Lemnis.Title)
	}
	if err := l.told(ctx, detected.SubjectID); err != nil {
		return err
	}
	back, err := l.journal.find(ctx, "the rollback", is(func(_ events.Event, c events.ServiceRolledback) bool { return c.Lemnis.Rollout.ID == rollout }))
	if err != nil {
		return err
	}
	l.tell("taken back, %.1f s after the verdict", back.Time.Sub(verdict.Time).Seconds())
	resolved, err := l.journal.find(ctx, "the incident to be resolved", is(func(e events.Event, _ events.IncidentResolved) bool {
		return e.SubjectID == detected.SubjectID
	}))
	if err == nil {
		l.tell("resolved, %.1f s after it was detected", resolved.Time.Sub(detected.Time).Seconds())
	}
	return err
}

// told waits for whoever is on duty to be told of an incident. An installation that speaks to public addresses only does not reach the
// pager, and has to say so.
func (l *Lap) told(ctx context.Context, incident string) error {
	sent, err := l.journal.find(ctx, "whoever is on duty to be told", is(func(_ events.Event, c events.AlertSent) bool { return c.Incident == incident }))
	if err != nil {
		return err
	}
	c, _ := sent.Content.(events.AlertSent)
	switch {
	case !c.Delivered && strings.Contains(c.Reason, outward.ErrClosed.Error()):
		l.tell("%s is not told: %s", c.To, c.Reason)
		return nil
	case !c.Delivered:
		return fmt.Errorf("%s was not told of incident %s: %s", c.To, incident, c.Reason)
	}
	m, err := l.pager.await(ctx, incident)
	if err == nil {
		l.tell("%s is told: %s", m.To, first(m.Text))
	}
	return err
}

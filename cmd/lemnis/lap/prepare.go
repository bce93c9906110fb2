package lap

import (
	"context"
	"errors"

	"github.com/lemnis/lemnis/pkg/events"
)

// approver lets rollouts into the last environment. She writes no code.
const approver = "eve"

// prepare configures the project and brings what is in the repository today to its users.
func (l *Lap) prepare(ctx context.Context) error {
	p := l.subject.Project
	p.OnCall = []events.OnCall{{Name: "first", People: []string{"dora"}, Webhook: l.pager.url}}
	fact, err := l.claim(ctx, said{id: "project", about: p.Name, content: events.ProjectConfigured{Project: p}})
	if err != nil {
		return err
	}
	if c, ok := fact.Content.(events.ProjectConfigured); ok {
		l.tell("project %s, revision %d: %s", p.Name, c.Revision, environments(p))
	}
	repository, _ := p.Repository(l.subject.Service)
	_, err = l.claim(ctx, said{id: "repository", about: l.subject.Service, content: events.RepositoryCreated{
		Repository: events.Repository{Name: l.subject.Service, URI: repository.URL}}})
	if err != nil {
		return err
	}
	return l.baseline(ctx)
}

// baseline waits until the master copy as it was found serves all users of the last environment. A program that serves
// nothing is no fault of the lap's: it goes on as far as it can.
func (l *Lap) baseline(ctx context.Context) error {
	built, err := l.journal.find(ctx, "the build of the baseline", is(func(_ events.Event, c events.BuildFinished) bool {
		return c.Lemnis.Service == l.subject.Service && c.Lemnis.Merge.Change == ""
	}))
	if err != nil {
		return err
	}
	if c, ok := built.Content.(events.BuildFinished); ok && c.Lemnis.Outcome != events.Success {
		// A library has nothing to deploy, and can be integrated; what can not be compiled will fail at that.
		l.tell("there is nothing to deploy: %s", first(c.Lemnis.Reason))
		return nil
	}
	artifact, err := l.published(ctx, func(d events.ArtifactDetail) bool { return d.Change == "" })
	if err != nil {
		return err
	}
	l.tell("baseline %s built: %s", short(artifact.Commit), evidence(artifact.Evidence))
	err = l.through(ctx, artifact)
	var failed *failedRollout
	if errors.As(err, &failed) && failed.step == "start" {
		l.tell("it does not serve on $PORT: %s", first(failed.reason))
		return nil
	}
	if err != nil {
		return err
	}
	l.served = true
	l.quiet()
	l.traffic.begin(context.WithoutCancel(ctx), l.url) // until the lap is over, not the step
	l.tell("users send %d requests a second to %s", l.options.PerSecond/10, l.url)
	return nil
}

// quiet and busy are hours of the users' day.
func (l *Lap) quiet() { l.traffic.rate(max(l.options.PerSecond/10, 1)) }
func (l *Lap) busy()  { l.traffic.rate(l.options.PerSecond) }

// published waits for an artifact.
func (l *Lap) published(ctx context.Context, want func(events.ArtifactDetail) bool) (events.ArtifactDetail, error) {
	e, err := l.journal.find(ctx, "the artifact", is(func(_ events.Event, c events.ArtifactPublished) bool { return want(c.Lemnis) }))
	c, _ := e.Content.(events.ArtifactPublished)
	return c.Lemnis, err
}

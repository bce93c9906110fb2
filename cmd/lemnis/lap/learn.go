package lap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/pkg/events"
)

// learn waits for the figures, the lesson and what the planner makes of it, and walks the chain.
func (l *Lap) learn(ctx context.Context) error {
	resolved, err := l.journal.find(ctx, "the end of the incident", is(func(e events.Event, _ events.IncidentResolved) bool {
		return e.SubjectID == l.incident.SubjectID
	}))
	if err != nil {
		return err
	}
	figures, err := l.journal.find(ctx, "the delivery figures", is(func(e events.Event, _ events.MetricsComputed) bool { return e.Cause == resolved.ID }))
	if err != nil {
		return err
	}
	if c, ok := figures.Content.(events.MetricsComputed); ok {
		m := c.Metrics
		l.tell("%d deployments to the last environment, %.0f %% of them failed, recovered in %.1f s", m.Deployments, 100*m.ChangeFailRate, m.RecoveryTime)
	}
	lesson, err := l.journal.find(ctx, "the lesson", is(func(e events.Event, _ events.LessonLearned) bool { return e.Cause == resolved.ID }))
	if err != nil {
		return err
	}
	if c, ok := lesson.Content.(events.LessonLearned); ok {
		l.tell("lesson: %s; %s", c.Action, first(c.Reason))
	}
	estimated, err := l.journal.find(ctx, "the item to cost more", is(func(e events.Event, _ events.ValueEstimated) bool { return e.Cause == lesson.ID }))
	if err != nil {
		return err
	}
	ranked, err := l.journal.find(ctx, "a new order", is(func(e events.Event, _ events.BacklogRanked) bool { return e.Cause == estimated.ID }))
	if err != nil {
		return err
	}
	if c, ok := ranked.Content.(events.BacklogRanked); ok {
		l.tell("the backlog is ranked anew: %s", first(c.Reason))
	}
	return l.walk(ctx, ranked)
}

// walk makes sure that the chain leads from the first sentence to what was learned, for anybody who asks.
func (l *Lap) walk(ctx context.Context, last events.Event) error {
	for {
		chain, err := l.client.Events(ctx, api.Query{Project: l.subject.Project.Name, Chain: l.chain})
		if err != nil && !api.Temporary(err) {
			return err
		}
		if len(chain) > 0 && chain[len(chain)-1].Sequence >= last.Sequence {
			if _, begins := chain[0].Content.(events.FeedbackReceived); !begins {
				return fmt.Errorf("the chain begins with %s, not with what a user said", chain[0].Type.Short())
			}
			phases := map[events.Phase]bool{}
			for _, e := range chain {
				phases[e.Phase] = true
			}
			if len(phases) != len(events.Phases()) {
				return errors.New("the chain does not lead through all six phases")
			}
			l.tell("chain %s: %d events through six phases", l.chain, len(chain))
			return nil
		}
		// An event can be queried within a second of its being accepted; the next event of the stream is no sign of that.
		if err := l.pause(ctx); err != nil {
			return cmp.Or(err, errors.New("the chain does not reach the last event"))
		}
	}
}

func environments(p events.Project) string {
	names := make([]string, len(p.Environments))
	for i, e := range p.Environments {
		names[i] = e.Name
		if e.Strategy != "" {
			names[i] += " (" + e.Strategy + ")"
		}
	}
	return strings.Join(names, " → ")
}

func evidence(e *events.Evidence) string {
	if e == nil {
		return "no evidence"
	}
	return fmt.Sprintf("%d tests, %d failed, %.1f %% covered", e.Tests, e.Failed, e.Coverage)
}

func short(s string) string { return s[:min(len(s), 10)] }

// first is the first line of a text.
func first(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

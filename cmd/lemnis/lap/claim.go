package lap

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/pkg/events"
)

// said is one thing that the lap tells the installation.
type said struct {
	id      string // unique within the lap
	about   string // subject.id
	content any
	chain   string
}

// claim says something and waits for the fact that it becomes; a refusal is an error.
func (l *Lap) claim(ctx context.Context, s said) (events.Event, error) {
	t := events.TypeOf(s.content)
	e := events.Event{ID: l.run + "-" + s.id, Source: "/demo", Type: t, Time: time.Now(), Project: l.subject.Project.Name,
		SubjectID: s.about, Content: s.content, Chain: s.chain}
	what := "the answer to " + t.Short() + " " + s.about
	err := l.insist(ctx, func() error {
		_, err := l.client.Publish(ctx, e)
		return err
	})
	if err != nil {
		return events.Event{}, fmt.Errorf("claim %s %s: %w", t.Short(), s.about, err)
	}
	return l.journal.find(ctx, what, func(fact events.Event) (bool, error) {
		if fact.Kind != events.Stated {
			return false, nil
		}
		if no, refused := fact.Content.(events.ClaimRefused); refused && no.Claim == e.ID {
			return false, fmt.Errorf("%s %s was refused: %s", t.Short(), s.about, no.Reason)
		}
		return fact.Cause == e.ID && fact.Type == t, nil
	})
}

// insist does what may fail while the installation starts, or starts again.
func (l *Lap) insist(ctx context.Context, do func() error) error {
	for {
		err := do()
		if err == nil || !api.Temporary(err) {
			return err
		}
		if ended := l.pause(ctx); ended != nil {
			return errors.Join(ended, err)
		}
	}
}

// pause waits before something is tried again.
func (l *Lap) pause(ctx context.Context) error {
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

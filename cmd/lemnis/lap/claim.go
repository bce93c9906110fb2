package lap

import (
	"cmp"
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
	by      *api.Client // who says it; nil: the lap itself
}

// claim says something and waits for the fact that it becomes; a refusal is an error.
func (l *Lap) claim(ctx context.Context, s said) (events.Event, error) {
	t := events.TypeOf(s.content)
	e := events.Event{ID: l.run + "-" + s.id, Source: "/demo", Type: t, Time: time.Now(), Project: l.subject.Project.Name,
		SubjectID: s.about, Content: s.content, Chain: s.chain}
	what := "the answer to " + t.Short() + " " + s.about
	client := cmp.Or(s.by, l.client)
	err := l.insist(ctx, func() error {
		_, err := client.Publish(ctx, e)
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

// person is the name and the client of somebody, asked for again while the installation is away.
func (l *Lap) person(ctx context.Context, name string) (who string, client *api.Client, err error) {
	err = l.insist(ctx, func() error {
		var err error
		who, client, err = l.options.Person(ctx, name)
		return err
	})
	if err != nil {
		err = fmt.Errorf("%s can not speak: %w", name, err)
	}
	return who, client, err
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

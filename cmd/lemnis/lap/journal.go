package lap

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/lemnis/lemnis/pkg/events"
)

// journal holds all events of the project that have been seen, in the order of the stream.
type journal struct {
	mu   sync.Mutex
	all  []events.Event
	more chan struct{} // closed, and replaced, with each event
	err  error         // why no more come
}

func newJournal() *journal { return &journal{more: make(chan struct{})} }

func (j *journal) add(e events.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all = append(j.all, e)
	close(j.more)
	j.more = make(chan struct{})
}

func (j *journal) end(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.err = err
	close(j.more)
	j.more = make(chan struct{})
}

func (j *journal) snapshot() []events.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.all)
}

// find looks at each event from the first one on, and then at each as it comes, until look says that it is the one, or
// that it tells why there will be none.
func (j *journal) find(ctx context.Context, what string, look func(e events.Event) (bool, error)) (events.Event, error) {
	for at := 0; ; {
		j.mu.Lock()
		seen, more, ended := j.all[at:len(j.all):len(j.all)], j.more, j.err
		j.mu.Unlock()
		for _, e := range seen {
			found, err := look(e)
			if found || err != nil {
				return e, err
			}
		}
		at += len(seen)
		if len(seen) > 0 {
			continue
		}
		if ended != nil {
			return events.Event{}, fmt.Errorf("waiting for %s: the event stream ended: %w", what, ended)
		}
		select {
		case <-ctx.Done():
			return events.Event{}, fmt.Errorf("waited in vain for %s: %w", what, context.Cause(ctx))
		case <-more:
		}
	}
}

// is matches a fact whose content is a T that satisfies want.
func is[T any](want func(e events.Event, c T) bool) func(events.Event) (bool, error) {
	return func(e events.Event) (bool, error) {
		c, ok := e.Content.(T)
		return ok && e.Kind == events.Stated && want(e, c), nil
	}
}

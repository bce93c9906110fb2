package deployer

import (
	"context"
	"sync"
	"time"
)

// turns are what is done at places, few at a time and one thing at each. Nobody waits for them but who wants to: one may hang for as
// long as a process takes to get healthy, or until the front is gone.
type turns struct {
	patience time.Duration
	slots    chan struct{}
	all      sync.WaitGroup

	mu sync.Mutex
	at map[at]bool
}

func newTurns(patience time.Duration) *turns {
	return &turns{patience: patience, slots: make(chan struct{}, 4), at: map[at]bool{}}
}

// begin does something at a place, unless that is under way. After patience it is told to end, and the next one has its turn even where
// it does not, as when it waits for a lock.
func (t *turns) begin(ctx context.Context, where at, do func(ctx context.Context)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at[where] {
		return
	}
	t.at[where] = true
	t.all.Go(func() {
		defer func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			delete(t.at, where)
		}()
		select {
		case t.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(ctx, t.patience)
		defer cancel()
		context.AfterFunc(ctx, func() { <-t.slots })
		do(ctx)
	})
}

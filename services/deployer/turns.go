package deployer

import (
	"context"
	"sync"
	"time"
)

// turns are what is done at places, few at a time and one thing at each. Nobody waits for them but who wants to: one may hang for as
// long as a process takes to get healthy, or until the front is gone.
type turns struct {
	patience time.Duration // after it, what is done is told to end
	share    time.Duration // after it, the next one has its turn too
	slots    chan struct{}
	all      sync.WaitGroup

	mu sync.Mutex
	at map[at]bool
}

func newTurns(patience, share time.Duration) *turns {
	return &turns{patience: patience, share: share, slots: make(chan struct{}, 4), at: map[at]bool{}}
}

// begin does something at a place, unless that is under way.
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
		t.turn(ctx, do)
	})
}

// turn does something when it has its turn, unless ctx ends before.
func (t *turns) turn(ctx context.Context, do func(ctx context.Context)) {
	select {
	case t.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	ctx, cancel := context.WithTimeout(ctx, t.patience)
	defer cancel()
	sharing, done := context.WithTimeout(ctx, t.share)
	defer done()
	context.AfterFunc(sharing, func() { <-t.slots })
	do(ctx)
}

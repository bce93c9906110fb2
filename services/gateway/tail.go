package gateway

import (
	"context"
	"sync"

	"github.com/lemnis/lemnis/internal/service"
)

// tail reads the stream in order from a sequence on, as [service.Tail] does without filters.
type tail func(ctx context.Context, from uint64, each func(service.Message) error) error

// tails lets several who follow the end of the stream do so with one reader: that of the read models, once it has come to
// the end. Until then each reads for itself. A message costs the server, the connection and the client as much as taking
// it in does, for every reader that there is.
type tails struct {
	host service.Host

	mu     sync.Mutex
	shared bool   // the reader stands at the end
	at     uint64 // and has handed on all up to this
	all    map[*follower]struct{}
}

// follower is called with what the reader meets, in the reader's goroutine.
type follower struct {
	from  uint64
	each  func(service.Message) error
	ended chan error
}

func newTails(h service.Host) *tails { return &tails{host: h, all: map[*follower]struct{}{}} }

// begin is called when the shared reader stands at the end, and before it goes on.
func (t *tails) begin(at uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shared, t.at = true, at
}

// meet hands a message on. What is called with it must not wait for anything.
func (t *tails) meet(m service.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at = m.Sequence
	for f := range t.all {
		if m.Sequence < f.from {
			continue
		}
		if err := f.each(m); err != nil {
			delete(t.all, f)
			f.ended <- err
		}
	}
}

// join adds a follower that has seen all below a sequence; false when the shared reader is not there, or is ahead of it.
func (t *tails) join(f *follower, from uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.shared || from <= t.at {
		return false
	}
	f.from = from
	t.all[f] = struct{}{}
	return true
}

// tail is the [tail] of all who follow.
func (t *tails) tail(ctx context.Context, from uint64, each func(service.Message) error) error {
	f := &follower{each: each, ended: make(chan error, 1)}
	joined := t.join(f, from)
	if !joined {
		err := service.Tail(ctx, t.host, nil, from, func(m service.Message) error {
			if err := each(m); err != nil {
				return err
			}
			if joined = t.join(f, m.Sequence+1); joined {
				return service.ErrStop
			}
			return nil
		})
		if !joined {
			return err
		}
	}
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.all, f)
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-f.ended:
		return err
	}
}

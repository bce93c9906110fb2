package subscription

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lemnis/lemnis/internal/service"
)

// Run delivers whenever no other gateway does, until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	defer m.clients.close()
	return service.WhileOwner(ctx, m.host, lease, m.deliver)
}

// deliver keeps a worker for every HTTP subscription until ctx ends.
func (m *Manager) deliver(ctx context.Context) error {
	kept, err := m.store(ctx)
	if err != nil {
		return err
	}
	t := newTurns()
	defer t.end()
	f, err := newFeed(ctx, m.host, m.options.Tail, t)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.run(ctx) })
	group.Go(func() error { return m.supervise(ctx, kept, f, t) })
	return group.Wait()
}

// supervised is the worker of one subscription, or of the one after the next change.
type supervised struct {
	stop context.CancelFunc
	done chan struct{}
}

func (m *Manager) supervise(ctx context.Context, kept store, f *feed, t *turns) error {
	w, err := kept.kv.Watch(ctx, recordPrefix+"*")
	if err != nil {
		return fmt.Errorf("watch subscriptions: %w", err)
	}
	defer func() { _ = w.Stop() }()
	var all sync.WaitGroup
	defer all.Wait()
	running := map[string]supervised{}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, ok := <-w.Updates():
			if !ok {
				return errors.New("watch subscriptions: the connection was lost")
			}
			if entry == nil {
				continue
			}
			id := strings.TrimPrefix(entry.Key(), recordPrefix)
			before, had := running[id]
			if had {
				before.stop()
			}
			if entry.Operation() != jetstream.KeyValuePut {
				delete(running, id)
				continue
			}
			var r record
			if err := json.Unmarshal(entry.Value(), &r); err != nil {
				m.log.Error("a subscription can not be read", zap.String("subscription", id), zap.Error(err))
				continue
			}
			if r.Spec.Protocol != HTTP {
				continue
			}
			one, stop := context.WithCancel(ctx)
			s := supervised{stop: stop, done: make(chan struct{})}
			running[id] = s
			k := &keeper{Manager: m, ctx: one, store: kept, feed: f, turns: t, record: r}
			all.Add(1)
			k.done = func() { stop(); close(s.done); all.Done() }
			go func() {
				if had {
					<-before.done // it writes down how far it came
				}
				k.begin()
			}()
		}
	}
}

// keeper keeps one subscription delivered until ctx ends or it is disabled; then done is called. It has a goroutine while it begins, or
// ends.
type keeper struct {
	*Manager
	ctx    context.Context //nolint:containedctx // of this subscription alone
	store  store
	feed   *feed
	turns  *turns
	record record
	wanted predicate
	done   func()
}

func (k *keeper) begin() {
	var err error
	if k.wanted, err = compileAll(k.record.Spec.Filters); err != nil { // a version before this one let it through
		k.log.Error("a subscription's filters are not understood", zap.String("subscription", k.record.Spec.ID), zap.Error(err))
		k.done()
		return
	}
	k.work()
}

// work begins until a worker has turns.
func (k *keeper) work() {
	for k.ctx.Err() == nil {
		w := &worker{
			manager: k.Manager, host: k.host, store: k.store, feed: k.feed, clients: k.clients, turns: k.turns, patience: k.options.Patience,
			record: &k.record, wanted: k.wanted, turn: turn{has: true},
		}
		k.mu.Lock()
		k.working[k.record.Spec.ID] = w
		k.mu.Unlock()
		err := w.begins(k.ctx)
		if err == nil {
			w.start(k.ctx, func(err error) {
				if k.goesOn(w, err) {
					k.work()
				} else {
					k.done()
				}
			})
			return
		}
		if !k.goesOn(w, err) {
			break
		}
	}
	k.done()
}

// goesOn tells whether another worker is to follow one that has ended.
func (k *keeper) goesOn(w *worker, err error) bool {
	k.mu.Lock()
	delete(k.working, k.record.Spec.ID)
	k.mu.Unlock()
	switch {
	case k.ctx.Err() != nil && err != nil && !errors.Is(err, context.Canceled):
		w.log().Warn("how far a subscription came could not be saved; what it delivered last may come again", zap.Error(err))
	case k.ctx.Err() != nil:
	case errors.Is(err, errDisabled):
		w.log().Info("a subscription is disabled", zap.String("reason", w.status().Reason))
		return false
	case err != nil:
		w.log().Warn("the delivery of a subscription was interrupted; going on", zap.Error(err))
		pause(k.ctx, time.Second)
	}
	return true
}

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
	f, err := newFeed(ctx, m.host, m.options.Tail)
	if err != nil {
		return err
	}
	sending := newSenders()
	defer sending.end()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.run(ctx) })
	group.Go(func() error { return m.supervise(ctx, kept, f, sending) })
	return group.Wait()
}

// supervised is the worker of one subscription, or of the one after the next change.
type supervised struct {
	stop context.CancelFunc
	done chan struct{}
}

func (m *Manager) supervise(ctx context.Context, kept store, f *feed, sending *senders) error {
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
			all.Go(func() {
				defer close(s.done)
				defer stop()
				if had {
					<-before.done // it writes down how far it came
				}
				m.keepWorking(one, kept, f, sending, r)
			})
		}
	}
}

// keepWorking delivers one subscription until ctx ends or it is disabled.
func (m *Manager) keepWorking(ctx context.Context, kept store, f *feed, sending *senders, r record) {
	log := m.log.With(zap.String("subscription", r.Spec.ID))
	wanted, err := compileAll(r.Spec.Filters)
	if err != nil { // a version before this one let it through
		log.Error("a subscription's filters are not understood", zap.Error(err))
		return
	}
	for ctx.Err() == nil {
		w := &worker{
			manager: m, host: m.host, log: log, store: kept, feed: f, clients: m.clients, senders: sending, patience: m.options.Patience,
			record: r, wanted: wanted,
		}
		m.mu.Lock()
		m.working[r.Spec.ID] = w
		m.mu.Unlock()
		err := w.work(ctx)
		m.mu.Lock()
		delete(m.working, r.Spec.ID)
		m.mu.Unlock()
		switch {
		case ctx.Err() != nil && err != nil && !errors.Is(err, context.Canceled):
			log.Warn("how far a subscription came could not be saved; what it delivered last may come again", zap.Error(err))
		case ctx.Err() != nil:
		case errors.Is(err, errDisabled):
			log.Info("a subscription is disabled", zap.String("reason", w.status().Reason))
			return
		case err != nil:
			log.Warn("the delivery of a subscription was interrupted; going on", zap.Error(err))
			pause(ctx, time.Second)
		}
	}
}

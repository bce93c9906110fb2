package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/pkg/events"
)

// Service is one phase of the lifecycle at work in this process. Several processes may run
// the same one: one of them decides, all of them work on effects.
type Service struct {
	host    Host
	def     Definition
	kinds   map[string]*Aggregate
	takes   map[events.Type]bool
	log     *zap.Logger
	metrics metrics
	configs configs
	broken  troubles

	projectors []*projector

	readyOnce sync.Once
	ready     chan struct{}
	owns      atomic.Bool
}

// New prepares a service. It panics when the definition contradicts itself: that is a mistake in
// code, not in input.
func New(h Host, def Definition) *Service {
	h.Timing = h.Timing.withDefaults()
	if h.Clock == nil {
		h.Clock = WallClock{}
	}
	h.Log = h.Log.With(zap.String("phase", string(def.Phase)))
	s := &Service{
		host: h, def: def, log: h.Log, ready: make(chan struct{}),
		kinds: map[string]*Aggregate{}, takes: map[events.Type]bool{},
	}
	s.configs.known = map[string]events.Project{}
	effects := slices.Clone(def.Effects)
	if len(def.Timers) > 0 {
		effects = append(effects, setTimers(h, def.Timers))
	}
	s.metrics.init(def.Phase, effects)
	s.host.metrics = &s.metrics
	s.def.Effects = s.metered(def.Effects)
	for i := range def.Aggregates {
		a := &def.Aggregates[i]
		if s.kinds[a.kind] != nil {
			panic(fmt.Sprintf("service: %s has two kinds of aggregate named %q", def.Phase, a.kind))
		}
		s.kinds[a.kind] = a
		for _, t := range a.takes {
			if _, ok := events.Lookup(t); !ok {
				panic(fmt.Sprintf("service: %s takes the unknown type %q", a.kind, t))
			}
			s.takes[t] = true
		}
	}
	fallback := refuseUnrouted()
	s.kinds[unrouted] = &fallback
	return s
}

// Phase is the phase that the service does.
func (s *Service) Phase() events.Phase { return s.def.Phase }

// Ready is closed when the service has caught up and decides, or stands by for an owner elsewhere.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Owns reports whether this process decides for the phase now.
func (s *Service) Owns() bool { return s.owns.Load() }

// Troubles lists what this process, as the owner, can not decide on: aggregates whose facts can not be
// folded, and partitions in which one can not be read, each with its sequence. What concerns them goes
// to the dead letter; everything else goes on.
func (s *Service) Troubles() []string { return s.broken.list() }

// Run works until ctx ends, then drains: what was read is handled, folds are saved, the lease is
// given back. The error is nil after a drain.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	if err := s.startProjections(ctx, group); err != nil {
		return errors.Join(notCanceled(err), notCanceled(group.Wait()))
	}
	effects := s.def.Effects
	if len(s.def.Timers) > 0 {
		effects = append(slices.Clone(effects), s.metered([]Effect{setTimers(s.host, s.def.Timers)})...)
		group.Go(func() error { return moveTimers(ctx, s.host, s.def.Phase) })
	}
	for _, e := range effects { // before this process may own the phase
		if _, err := effectConsumer(ctx, s.host, s.def.Phase, e, new(progress)); err != nil {
			return errors.Join(notCanceled(err), notCanceled(group.Wait()))
		}
	}
	for _, e := range effects {
		if !e.OnOwner {
			group.Go(func() error { return work(ctx, s.host, s.def.Phase, e, s.configs.get) })
		}
	}
	group.Go(func() error { return s.own(ctx) })
	return notCanceled(group.Wait())
}

// metered gives effects what measures them.
func (s *Service) metered(effects []Effect) []Effect {
	effects = slices.Clone(effects)
	for i, e := range effects {
		effects[i].metrics = s.metrics.effects[e.Name]
	}
	return effects
}

func notCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// startProjections starts all projections and waits until they have caught up.
func (s *Service) startProjections(ctx context.Context, group *errgroup.Group) error {
	var caughtUp []chan struct{}
	s.projectors = nil
	for _, p := range append([]Projection{s.configs.projection()}, s.def.Projections...) {
		done, at := make(chan struct{}), newProjector(p)
		caughtUp, s.projectors = append(caughtUp, done), append(s.projectors, at)
		group.Go(func() error { return project(ctx, s.host, s.def.Phase, at, func() { close(done) }) })
	}
	for _, done := range caughtUp {
		select {
		case <-done:
		case <-ctx.Done(): // also when a projection failed: that ends the group
			return ctx.Err()
		}
	}
	return nil
}

// own takes the lease whenever it can be had and serves as the owner, until ctx ends.
func (s *Service) own(ctx context.Context) error {
	defer s.retire()
	for ctx.Err() == nil {
		standby := time.AfterFunc(s.host.Timing.Lease, s.setReady)
		l, err := acquire(ctx, s.host.JS, string(s.def.Phase), s.host.Instance, s.host.Timing.Lease, s.retire)
		standby.Stop()
		if err != nil {
			if ctx.Err() == nil {
				s.log.Warn("the lease can not be had; trying again", zap.Error(err))
				wait(ctx, s.host.Timing.Lease/5)
			}
			continue
		}
		t := s.newTerm(l)
		err = t.serve(ctx, func() {
			s.metrics.foldsSaved(t.complete, time.Now())
			s.metrics.term.Store(t)
			s.owns.Store(true)
			s.setReady()
		})
		s.owns.Store(false)
		s.metrics.term.Store(nil)
		s.broken.clear()
		var crash *crashError
		switch {
		case errors.As(err, &crash):
			return err
		case errors.Is(err, errLost):
			s.log.Warn("another process takes the phase over", zap.Error(err))
		case err != nil && ctx.Err() == nil:
			s.log.Error("the term ended; beginning another", zap.Error(err))
			wait(ctx, s.host.Timing.Lease/5)
		case err != nil:
			s.log.Warn("the lease could not be given back; another owner waits for it to run out", zap.Error(err))
		}
	}
	return nil
}

// retire gives up what an earlier term has left, for another process's sake.
func (s *Service) retire() {
	for _, d := range s.def.Duties {
		if d.Retire != nil {
			d.Retire()
		}
	}
}

func (s *Service) setReady() { s.readyOnce.Do(func() { close(s.ready) }) }

func (s *Service) newTerm(l *lease) *term {
	t := &term{
		host: s.host, def: s.def, kinds: s.kinds, takes: s.takes, log: s.log, metrics: &s.metrics, troubles: &s.broken, faults: s.host.faults,
		lease: l, seed: maphash.MakeSeed(), latestProject: s.configs.get, projectors: s.projectors,
	}
	t.rebuilds.asked = make(chan *events.Event, 1)
	for range s.host.Timing.Workers {
		t.workers = append(t.workers, &worker{
			term: t, tasks: make(chan task, 64), snapshots: make(chan snapshotRequest), swaps: make(chan *swapping), stopped: make(chan struct{}),
			partitions: map[fold.PartitionID]*partition{},
		})
	}
	return t
}

func (t Timing) withDefaults() Timing {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&t.Lease, 5*time.Second)
	def(&t.Save, 100*time.Millisecond)
	def(&t.Snapshot, 10*time.Minute)
	def(&t.AckWait, 10*time.Second)
	def(&t.BackoffMin, 200*time.Millisecond)
	def(&t.BackoffMax, 30*time.Second)
	if t.Workers == 0 {
		t.Workers = events.Partitions
	}
	return t
}

// configs is the latest configuration of every project, for effects. Decisions go by the one in
// force at their cause instead.
type configs struct {
	mu    sync.RWMutex
	known map[string]events.Project
}

func (c *configs) get(name string) events.Project {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if p, ok := c.known[name]; ok {
		return p
	}
	return events.DefaultProject(name)
}

func (c *configs) projection() Projection {
	return Projection{Name: "projects", On: []events.Type{projectSubject}, Apply: func(e events.Event) {
		if conf, ok := e.Content.(events.ProjectConfigured); ok {
			p := conf.Project
			p.Name, p.Revision = e.Project, conf.Revision
			c.mu.Lock()
			c.known[e.Project] = p
			c.mu.Unlock()
		}
	}, Save: func() ([]byte, error) {
		c.mu.RLock()
		defer c.mu.RUnlock()
		all := make([]namedProject, 0, len(c.known))
		for name, p := range c.known {
			all = append(all, namedProject{name, p.Revision, p})
		}
		return json.Marshal(all)
	}, Load: func(state []byte) error {
		var all []namedProject
		if err := json.Unmarshal(state, &all); err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.known = make(map[string]events.Project, len(all))
		for _, n := range all {
			n.Project.Name, n.Project.Revision = n.Name, n.Revision
			c.known[n.Name] = n.Project
		}
		return nil
	}}
}

// namedProject is a configuration with what its own form leaves out.
type namedProject struct {
	Name     string         `json:"name"`
	Revision uint64         `json:"revision"`
	Project  events.Project `json:"project"`
}

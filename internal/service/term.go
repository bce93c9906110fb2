package service

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/pkg/events"
)

// term is one process's time as the owner of a phase, from taking the lease to losing it,
// giving it back, or crashing.
type term struct {
	host          Host
	def           Definition
	kinds         map[string]*Aggregate
	takes         map[events.Type]bool // types that some aggregate's Route may answer to
	log           *zap.Logger
	metrics       *metrics
	faults        *faults
	lease         *lease
	latestProject func(string) events.Project // for effects

	workers []*worker
	own     recent
	configs projects
	seed    maphash.Seed

	mu      sync.Mutex
	pending []*cause // read and not yet known to be handled, in stream order
	floor   uint64   // everything at or below it is handled
	read    atomic.Uint64
	unsaved atomic.Bool // the last save failed: the store lacks what it was to write
}

// cause is an event on its way through the workers.
type cause struct {
	event   *events.Event
	project *events.Project // the configuration in force at the event's place in the stream
	open    atomic.Int32    // tasks not yet handled
}

// serve runs the term until ctx ends (nil), the lease is lost (errLost), or a fault.
// ready is called when decisions begin.
func (t *term) serve(ctx context.Context, ready func()) error {
	barrier, err := t.raiseBarrier(ctx)
	if err != nil {
		return err
	}
	t.floor = t.lease.floor
	t.read.Store(t.floor)
	if err := t.loadProjects(ctx, barrier); err != nil {
		return err
	}
	complete, err := t.loadFolds(ctx, barrier)
	if err != nil {
		return err
	}
	t.log.Info("owns the phase", zap.Uint64("floor", t.floor), zap.Uint64("folded", barrier))
	ready()

	// Workers get a context of their own, so that a drain lets them finish what they hold.
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()
	workers, workCtx := errgroup.WithContext(working)
	for _, w := range t.workers {
		workers.Go(func() error { return w.run(workCtx) })
	}
	rest, restCtx := errgroup.WithContext(ctx)
	rest.Go(func() error { return t.dispatch(restCtx, workCtx) })
	rest.Go(func() error { return t.keepLease(restCtx) })
	rest.Go(func() error { return t.saveFolds(restCtx, complete) })
	rest.Go(func() error { // a worker's fault ends the term
		select {
		case <-workCtx.Done():
			return errors.New("a worker stopped")
		case <-restCtx.Done():
			return nil
		}
	})
	for _, d := range t.def.Duties {
		rest.Go(func() error { return t.perform(restCtx, d) })
	}
	for _, e := range t.def.Effects {
		if e.OnOwner {
			rest.Go(func() error { return work(restCtx, t.host, t.def.Phase, e, t.latestProject) })
		}
	}
	restErr := rest.Wait()
	for _, w := range t.workers {
		close(w.tasks)
	}
	time.AfterFunc(drainLimit, stopWorking)
	workErr := workers.Wait()
	stopWorking()
	var crash *crashError
	switch {
	case errors.As(workErr, &crash) || errors.As(restErr, &crash):
		return crash
	case workErr != nil && !errors.Is(workErr, context.Canceled):
		return workErr
	case errors.Is(restErr, errLost):
		return errLost
	case ctx.Err() == nil:
		return restErr
	}
	return t.handBack(context.WithoutCancel(ctx), complete)
}

// drainLimit bounds how long a stopping owner finishes what it has read.
const drainLimit = 5 * time.Second

// handBack saves the folds and gives the lease back, so that the next owner starts at once.
func (t *term) handBack(ctx context.Context, complete uint64) error {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	floor := t.handled()
	if t.unsaved.Load() {
		complete = 0
	}
	if _, err := t.saveOnce(ctx, complete, floor); err != nil {
		t.log.Warn("folds are not saved; the next owner folds the stream", zap.Error(err))
	}
	return t.lease.release(ctx, floor)
}

// raiseBarrier puts a mark on the stream: every fact of an earlier owner that this one can not
// know of yet stands before it, or loses against the fence later.
func (t *term) raiseBarrier(ctx context.Context) (uint64, error) {
	r := resulter{host: t.host, phase: t.def.Phase, source: "owner"}
	return r.publish(ctx, outcome{
		project: internalProject, id: events.FactID(t.host.Stream, t.lease.revision, "owner", internalProject, t.lease.owner, "elected"),
		Report: Report{Content: events.OwnerElected{Owner: t.lease.owner, Floor: t.lease.floor}, Key: t.lease.owner, Phase: t.def.Phase},
	})
}

// internalProject is the project token of what concerns no project.
const internalProject = "_"

// keepLease renews the lease and moves its floor until it is lost.
func (t *term) keepLease(ctx context.Context) error {
	tick := time.NewTicker(t.host.Timing.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		floor := t.handled()
		if err := t.faults.at(stepFloor, nil); err != nil {
			return err
		}
		err := t.lease.renew(ctx, floor)
		switch {
		case errors.Is(err, errLost):
			return errLost
		case err != nil && ctx.Err() == nil:
			t.log.Warn("the lease could not be renewed; trying again", zap.Error(err))
		}
	}
}

// handled moves the floor up to below the first event that is not handled yet.
func (t *term) handled() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for ; n < len(t.pending) && t.pending[n].open.Load() == 0; n++ {
		t.floor = t.pending[n].event.Sequence
		t.pending[n] = nil
	}
	t.pending = t.pending[n:]
	if len(t.pending) == 0 {
		t.pending = nil
		if r := t.read.Load(); r > t.floor {
			t.floor = r
		}
	}
	return t.floor
}

// workerOf picks the worker of a partition. The partitions of one project are dealt out evenly:
// the reader waits for the fullest worker, so hashing them too would cost a third of the speed.
func (t *term) workerOf(id fold.PartitionID) *worker {
	return t.workers[(maphash.String(t.seed, id.Project)+uint64(id.Partition))%uint64(len(t.workers))]
}

// comesBack reports whether own facts of this type are read again as causes.
func (t *term) comesBack(typ events.Type) bool { return t.takes[typ] }

// state makes a decided fact an event of this aggregate.
func (t *term) state(f events.Fact, k task) events.Event {
	c := k.cause.event
	typ := events.TypeOf(f.Content)
	e := events.Event{
		ID:     events.FactID(t.host.Stream, c.Sequence, k.kind.kind, c.Project, k.key, typ),
		Source: "/lemnis/" + string(t.def.Phase) + "/" + k.kind.kind,
		Type:   typ, Time: c.Stored, Project: c.Project, Phase: t.def.Phase,
		Aggregate: k.kind.kind, Key: k.key, Principal: c.Principal, Cause: c.ID,
		CauseSequence: c.Sequence, ConfigRevision: k.cause.project.Revision, Attempt: c.Attempt,
		Chain: f.Chain, SubjectID: f.SubjectID, Content: f.Content,
	}
	e.TraceParent = childSpan(c.TraceParent, e.ID)
	if e.Chain == "" {
		e.Chain = c.Chain
	}
	if e.SubjectID == "" {
		e.SubjectID = k.key
	}
	if f.Timer > 0 { // the bus fires on whole seconds
		e.Deadline = c.Stored.Add(f.Timer).Truncate(time.Second).Add(time.Second)
	}
	e.Links = append([]events.Link{{Type: events.Path, Context: c.ID}}, f.Links...)
	if c.Kind == events.Claim && c.Type == typ { // an adopted claim keeps what its author added
		e.Custom, e.CustomType, e.SubjectSource = c.Custom, c.CustomType, c.SubjectSource
	}
	return e
}

// perform runs a duty again whenever it ends, until the term does.
func (t *term) perform(ctx context.Context, d Duty) error {
	r := &Reporter{report: func(ctx context.Context, project, chain, once string, rep Report) error {
		out := resulter{host: t.host, phase: t.def.Phase, source: d.Name}
		_, err := out.publish(ctx, outcome{
			project: project, chain: chain, Report: rep,
			id: events.FactID(t.host.Stream, 0, d.Name, project, rep.Key+"/"+once, events.TypeOf(rep.Content)),
		})
		return err
	}}
	for backoff := t.host.Timing.BackoffMin; ; backoff = min(2*backoff, t.host.Timing.BackoffMax) {
		err := protect(func() error { return d.Run(ctx, r) })
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the term was ended
		}
		t.log.Warn("a duty ended; starting it again", zap.String("duty", d.Name), zap.Error(err))
		wait(ctx, backoff)
	}
}

// protect makes a panic an error.
func protect(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return f()
}

// recent holds own facts from their publication until the reader meets them, so that they are
// not decoded again.
type recent struct {
	mu    sync.Mutex
	facts map[uint64]*events.Event
	met   uint64 // highest sequence that the reader has met
}

// recentLimit bounds the memory of facts that the reader is behind with.
const recentLimit = 8192

func (r *recent) put(e events.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.facts == nil {
		r.facts = map[uint64]*events.Event{}
	}
	if e.Sequence > r.met && len(r.facts) < recentLimit {
		r.facts[e.Sequence] = &e
	}
}

func (r *recent) take(sequence uint64) *events.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.met = max(r.met, sequence)
	e := r.facts[sequence]
	delete(r.facts, sequence)
	return e
}

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
	troubles      *troubles
	faults        *faults
	lease         *lease
	latestProject func(string) events.Project // for effects

	workers    []*worker
	projectors []*projector // of the process

	own      recent
	rebuilds rebuilds
	configs  projects
	seed     maphash.Seed

	mu      sync.Mutex
	pending []*cause // read and not yet known to be handled, in stream order
	floor   uint64   // everything at or below it is handled
	read    atomic.Uint64

	// complete is the position up to which the store holds all folds, 0 when something is missing
	// there. The saver's.
	complete uint64
}

// cause is an event on its way through the workers.
type cause struct {
	event   *events.Event
	project *events.Project // the configuration in force at the event's place in the stream
	open    atomic.Int32    // tasks not yet handled
}

// serve runs the term until ctx ends (nil), the lease is lost (errLost), or a fault.
// ready is called when decisions begin.
//
// A fault ends everything at once. A clean stop goes from the outside in: first the work that only
// the owner may do, then decisions, then the lease, which is renewed until then: nobody else can
// do either before.
func (t *term) serve(ctx context.Context, ready func()) error {
	t.floor = t.lease.floor
	t.read.Store(t.floor)
	elected := *t.lease // as it was taken; the keeper writes to it from here on
	alive, fail := context.WithCancelCause(context.WithoutCancel(ctx))
	defer fail(nil)
	keeping, letGo := context.WithCancel(alive)
	defer letGo()
	var keeper sync.WaitGroup
	keeper.Go(func() {
		if err := t.keepLease(keeping); err != nil {
			fail(err)
		}
	})
	stoppable, stop := context.WithCancel(alive)
	defer stop()
	defer context.AfterFunc(ctx, stop)()

	err := t.load(stoppable, &elected)
	loaded := err == nil
	if loaded {
		ready()
		t.work(stoppable, alive, fail)
	}
	if loaded && alive.Err() == nil {
		t.saveLast(alive)
	}
	fault := context.Cause(alive)
	letGo()
	keeper.Wait()
	switch {
	case fault != nil:
		return fault
	case context.Cause(alive) != nil: // lost while saving: nothing is left to hand back
		return context.Cause(alive)
	case err != nil && ctx.Err() == nil:
		return err
	}
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainLimit)
	defer cancel()
	return t.lease.release(release, t.handled())
}

// load brings the term to where it can decide: all facts up to its own election are folded.
func (t *term) load(ctx context.Context, elected *lease) error {
	barrier, err := t.raiseBarrier(ctx, elected)
	if err != nil {
		return err
	}
	complete, saved := t.loadSaved(ctx)
	if ahead := aheadOf(barrier, elected.floor, complete, saved); ahead > 0 {
		if err := t.beginAnew(ctx, barrier, ahead); err != nil {
			return err
		}
		complete, saved = 0, nil
	}
	base, first, err := t.loadKept(ctx, barrier)
	if err != nil {
		return err
	}
	folded := complete // by what was loaded; complete is what the store has
	if base != nil && complete+1 < first {
		if saved, err = t.partitionsOf(base); err != nil {
			return err
		}
		if t.faults.broken(breakSnapshot) {
			saved = nil
		}
		complete, folded = 0, base.Floor
	}
	if err := t.loadProjects(ctx, barrier, base, first); err != nil {
		return err
	}
	if err := t.loadFolds(ctx, barrier, folded, saved); err != nil {
		return err
	}
	if err := nothingGone(ctx, t.host.JS, first); err != nil {
		return err
	}
	t.complete = complete
	t.log.Info("owns the phase", zap.Uint64("floor", t.handled()), zap.Uint64("folded", barrier))
	return nil
}

// work decides, saves, and does what only the owner may do, until ctx is stopped or the term is
// not alive any more.
func (t *term) work(ctx, alive context.Context, fail context.CancelCauseFunc) {
	start := func(group *sync.WaitGroup, f func() error) {
		group.Go(func() {
			if err := f(); err != nil {
				fail(err)
			}
		})
	}
	var workers, readers, world sync.WaitGroup
	working, stopWorking := context.WithCancel(alive)
	defer stopWorking()
	for _, w := range t.workers {
		start(&workers, func() error {
			if err := w.run(working); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		})
	}
	reading, stopReading := context.WithCancel(alive)
	defer stopReading()
	start(&readers, func() error { return t.dispatch(reading, working) })
	start(&readers, func() error { return t.saveFolds(reading, alive) })
	start(&readers, func() error { return t.rebuildWhenAsked(reading) })
	start(&readers, func() error { return t.keepSnapshots(reading) })
	for _, d := range t.def.Duties {
		start(&world, func() error { return t.perform(ctx, d) })
	}
	for _, e := range t.def.Effects {
		if e.OnOwner {
			start(&world, func() error { return work(ctx, t.host, t.def.Phase, e, t.latestProject) })
		}
	}
	<-ctx.Done()
	world.Wait()
	// What the workers still hold then is met again by the next owner. The saver may wait for one of them.
	limit := time.AfterFunc(drainLimit, stopWorking)
	defer limit.Stop()
	stopReading()
	readers.Wait()
	for _, w := range t.workers {
		close(w.tasks)
	}
	workers.Wait()
}

// drainLimit bounds how long a stopping owner finishes what it has read.
const drainLimit = 5 * time.Second

// saveLast saves the folds, so that the next owner starts at once.
func (t *term) saveLast(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	if _, err := t.saveOnce(ctx, t.complete, t.handled()); err != nil {
		t.log.Warn("folds are not saved; the next owner folds the stream", zap.Error(err))
	}
}

// raiseBarrier puts a mark on the stream: every fact of an earlier owner that this one can not
// know of yet stands before it, or loses against the fence later.
func (t *term) raiseBarrier(ctx context.Context, elected *lease) (uint64, error) {
	r := resulter{host: t.host, phase: t.def.Phase, source: "owner"}
	return r.publish(ctx, outcome{
		project: internalProject, id: events.FactID(t.host.Stream, elected.revision, "owner", internalProject, elected.owner, "elected"),
		Report: Report{Content: events.OwnerElected{Owner: elected.owner, Floor: elected.floor}, Key: elected.owner, Phase: t.def.Phase},
	})
}

// internalProject is the project token of what concerns no project.
const internalProject = "_"

// keepLease renews the lease and moves its floor until ctx ends or it is lost.
func (t *term) keepLease(ctx context.Context) error {
	return t.lease.keep(ctx, t.log, func() (uint64, error) {
		return t.handled(), t.faults.at(stepFloor, nil)
	})
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

// firstOpen is the sequence of the first event that is not handled, or the one behind all that was read.
func (t *term) firstOpen() uint64 {
	floor := t.handled()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) > 0 {
		return t.pending[0].event.Sequence
	}
	return floor + 1
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
		ID:     events.FactID(t.host.Identity(c.Sequence), c.Sequence, k.kind.kind, c.Project, k.key, typ),
		Source: "/lemnis/" + string(t.def.Phase) + "/" + k.kind.kind,
		Type:   typ, Time: c.Stored, Project: c.Project, Phase: t.def.Phase,
		Kind: events.Stated, Aggregate: k.kind.kind, Key: k.key, Principal: c.Principal, Cause: c.ID,
		CauseSequence: c.Sequence, ConfigRevision: k.cause.project.Revision, Attempt: c.Attempt,
		Chain: f.Chain, SubjectID: f.SubjectID, Content: f.Content,
	}
	if e.Chain == "" {
		e.Chain = c.Chain
	}
	e.TraceParent = events.TraceContext(e.Project, e.Chain, e.ID)
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
	r := NewReporter(func(ctx context.Context, project, chain, once string, rep Report) error {
		out := resulter{host: t.host, phase: t.def.Phase, source: d.Name}
		_, err := out.publish(ctx, outcome{
			project: project, chain: chain, Report: rep,
			id: events.FactID(t.host.Stream, 0, d.Name, project, rep.Key+"/"+once, events.TypeOf(rep.Content)),
		})
		return err
	})
	for backoff := t.host.Timing.BackoffMin; ; backoff = min(2*backoff, t.host.Timing.BackoffMax) {
		began := time.Now()
		err := protect(func() error { return d.Run(ctx, r) })
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the term was ended
		}
		if time.Since(began) > t.host.Timing.BackoffMax {
			backoff = t.host.Timing.BackoffMin
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

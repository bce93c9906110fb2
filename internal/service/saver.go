package service

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/pkg/events"
)

// snapshotRequest asks a worker for what changed since the last save, or for everything, or for
// everything of one partition; the last leaves the marks of what changed as they are.
type snapshotRequest struct {
	all    bool
	only   *fold.PartitionID
	names  bool // which partitions there are, and nothing of them
	peek   bool // the marks of what changed stay as they are
	answer chan []changed
}

// changed is what a worker folded in one partition. States are values: encoding them later, on
// the saver's goroutine, does not block the worker.
type changed struct {
	id     fold.PartitionID
	base   uint64
	last   uint64
	folded map[field]aggregate
}

func (w *worker) snapshot(r snapshotRequest) {
	var out []changed
	for _, p := range w.partitions {
		if r.names {
			out = append(out, changed{id: p.id})
			continue
		}
		if r.only != nil && *r.only != p.id || len(p.dirty) == 0 && !r.all && r.only == nil {
			continue
		}
		c := changed{id: p.id, base: p.saved, last: p.last, folded: make(map[field]aggregate, len(p.dirty))}
		if r.all || r.only != nil {
			c.base = 0
			for f, a := range p.folded {
				c.folded[f] = *a
			}
		} else {
			for _, a := range p.dirty {
				c.folded[a.name] = *a
			}
		}
		if r.only == nil && !r.peek {
			p.saving()
		}
		out = append(out, c)
	}
	r.answer <- out
}

// scope names the folds of this phase and of this version of its code.
func (t *term) scope() fold.Scope {
	versions := make([]string, 0, len(t.def.Aggregates)+1)
	for _, a := range t.def.Aggregates {
		versions = append(versions, fmt.Sprintf("%s%d", a.kind, a.version))
	}
	versions = append(versions, fmt.Sprintf("%s%d", unrouted, t.kinds[unrouted].version))
	return fold.Scope{Stream: t.host.FoldIdentity(), Phase: string(t.def.Phase), Version: strings.Join(versions, "-")}
}

// completeName is the position up to which the saved folds are complete.
func (t *term) completeName() string {
	s := t.scope()
	return "complete/" + s.Stream + "/" + s.Phase + "/" + s.Version
}

// loadFolds restores the folds: what the store holds, complete up to a position, then the facts behind it up to the
// barrier.
func (t *term) loadFolds(ctx context.Context, barrier, complete uint64, saved map[fold.PartitionID]*partition) error {
	for id, p := range saved {
		w := t.workerOf(id)
		w.partitions[id] = p
	}
	facts := fmt.Sprintf("%s.*.%s.*.*.*", events.Stated, t.def.Phase)
	next := t.readMost(ctx, facts, complete+1, barrier, t.foldLoaded)
	return t.readUntil(ctx, []string{facts, barrierFilter(t.def.Phase)}, next, barrier, t.foldLoaded)
}

// foldLoaded folds what is read before the workers begin.
func (t *term) foldLoaded(m Message) error {
	if m.Kind != events.Stated {
		return nil
	}
	e, err := m.Event()
	if err != nil {
		id, placed := placeOf(m)
		if !placed {
			return fmt.Errorf("fact %d can not be read, nor where it belongs: %w", m.Sequence, err)
		}
		t.stopPartition(t.partition(id), m.Sequence, err)
		return nil
	}
	t.foldInto(t.partition(fold.PartitionID{Project: e.Project, Partition: events.Partition(e.Key)}), e)
	return nil
}

// partition finds or makes the fold of a partition, before the workers begin.
func (t *term) partition(id fold.PartitionID) *partition {
	return t.workerOf(id).partition(id)
}

// placeOf finds the partition of a fact by the subject that the stream stores it under.
func placeOf(m Message) (fold.PartitionID, bool) {
	n, err := strconv.Atoi(token(m.Subject(), 5))
	return fold.PartitionID{Project: token(m.Subject(), 1), Partition: n}, err == nil
}

// foldInto folds a fact that stands on the stream. What can not be folded breaks its aggregate, and
// nothing else.
func (t *term) foldInto(p *partition, e events.Event) {
	switch err := p.fold(t.kinds, e); {
	case errors.Is(err, errUnknownKind):
		t.log.Warn("a fact of an unknown kind of aggregate is passed over", append(logEvent(e), zap.String("aggregate", e.Aggregate))...)
	case err != nil:
		t.trouble(fmt.Sprintf("%s/%s of %s is broken: fact %d can not be folded", e.Aggregate, e.Key, e.Project, e.Sequence), err)
	}
}

// stopPartition notes a fact that can not be read. It may not be passed over, so nothing is decided
// in its partition any more; all others go on.
func (t *term) stopPartition(p *partition, sequence uint64, err error) {
	p.stop(sequence, err)
	t.trouble(fmt.Sprintf("partition %d of %s is stopped: fact %d can not be read", p.id.Partition, p.id.Project, sequence), err)
}

// trouble says, in the log and under /readyz, what needs a version that can read the stream.
func (t *term) trouble(what string, err error) {
	if t.troubles.note(what) {
		t.log.Error(what+"; what concerns it goes to the dead letter", zap.Error(err))
	}
}

// loadSaved reads the store. The store is only a shortcut: whatever is wrong with it, the stream
// is folded from the beginning instead.
func (t *term) loadSaved(ctx context.Context) (uint64, map[fold.PartitionID]*partition) {
	mark, err := t.host.Folds.Mark(ctx)
	var complete uint64
	if err == nil {
		complete, err = t.host.Folds.Position(ctx, t.completeName())
	}
	if err == nil && complete > 0 {
		var saved map[fold.PartitionID]fold.Partition
		if saved, err = t.host.Folds.Load(ctx, t.scope()); err == nil {
			loaded := make(map[fold.PartitionID]*partition, len(saved))
			for id, s := range saved {
				if loaded[id], err = loadPartition(t.def.Phase, t.kinds, id, s); err != nil {
					break
				}
			}
			if err == nil {
				if err = t.stillAt(ctx, mark, complete); err == nil {
					return complete, loaded
				}
			}
		}
	}
	if err != nil {
		t.log.Warn("saved folds can not be used; folding the stream from the beginning", zap.Error(err))
	}
	return 0, nil
}

// stillAt reports a store that was wiped, and perhaps written again by an owner that still was, or left for another, while it was
// read.
func (t *term) stillAt(ctx context.Context, mark string, complete uint64) error {
	at, err := t.host.Folds.Position(ctx, t.completeName())
	if err != nil {
		return err
	}
	now, err := t.host.Folds.Mark(ctx)
	if err == nil && (at < complete || now != mark) {
		err = fold.ErrMoved
	}
	return err
}

// saveShare keeps saving to a tenth of the time at most: under load, what changes again and again
// is then written less often.
const saveShare = 10

// saveFolds saves behind the decisions until ctx ends; a save that it is at is finished, or the
// hand-over would have to write everything. A store that is away or was wiped costs nothing but a
// longer start.
func (t *term) saveFolds(ctx, alive context.Context) error {
	pause := t.host.Timing.Save
	for {
		if wait(ctx, pause); ctx.Err() != nil {
			return nil //nolint:nilerr // drained
		}
		rewriting := t.rebuilds.rewrite.Load()
		floor := t.handled()
		if floor == t.complete && rewriting == nil {
			t.metrics.foldsSaved(floor, time.Now())
			continue
		}
		start := time.Now()
		err := t.forgetSaved(alive)
		var saved uint64
		if err == nil {
			saved, err = t.saveOnce(alive, t.complete, floor)
		}
		pause = max(t.host.Timing.Save, min(saveShare*time.Since(start), 10*time.Second))
		if err != nil {
			t.complete = 0 // what is missing now has to be written whole, also by the hand-over
			if ctx.Err() == nil {
				t.log.Warn("folds are not saved; trying again", zap.Error(err))
			}
			continue
		}
		t.complete = saved
		t.metrics.foldsSaved(saved, start)
		t.rewrote(rewriting)
	}
}

// saveOnce writes what changed and moves the position up to the floor. Facts at or below the
// floor are folded before it is taken, so the position never promises too much. A store that stands
// before what was written to it was wiped, or is another: then everything is written whole. Where that happens during a save, of which
// the store then has a part, the position does not move.
func (t *term) saveOnce(ctx context.Context, complete, floor uint64) (uint64, error) {
	mark, err := t.host.Folds.Mark(ctx)
	if err != nil {
		return 0, err
	}
	known, err := t.host.Folds.Position(ctx, t.completeName())
	if err != nil {
		return 0, err
	}
	all := complete == 0 || known < complete
	var saves []fold.Save
	for w, snapshot := range t.snapshots(ctx, all) {
		for _, c := range snapshot {
			encoded, err := t.encode(c)
			if err != nil {
				return 0, err
			}
			s := fold.Save{ID: c.id, Base: c.base, Sequence: c.last, Changed: encoded}
			s.Whole = func() map[string][]byte { return t.whole(ctx, w, c.id, encoded, all) }
			saves = append(saves, s)
		}
	}
	var older *fold.OlderError
	if err := t.host.Folds.Save(ctx, t.scope(), saves); err != nil && !errors.As(err, &older) {
		return 0, err
	}
	if older != nil || floor < known { // another owner is further on: its folds stay
		return floor, nil //nolint:nilerr // nothing failed
	}
	err = t.host.Folds.AdvanceMarked(ctx, t.completeName(), mark, known, floor)
	if err != nil && !errors.Is(err, fold.ErrMoved) {
		return 0, err
	}
	return floor, nil
}

func (t *term) encode(c changed) (map[string][]byte, error) {
	out := make(map[string][]byte, len(c.folded))
	for f, a := range c.folded {
		b, err := encodeAggregate(t.kinds[f.kind], a)
		if err != nil {
			return nil, err
		}
		out[f.String()] = b
	}
	return out, nil
}

// whole renders all of a partition whose base is gone from the store. It may be ahead of the
// sequence that it is saved under: folding a fact twice changes nothing.
func (t *term) whole(ctx context.Context, w *worker, id fold.PartitionID, encoded map[string][]byte, isAll bool) map[string][]byte {
	if isAll {
		return encoded
	}
	for _, all := range w.ask(ctx, snapshotRequest{only: &id}) {
		if b, err := t.encode(all); err == nil {
			return b
		}
	}
	return encoded
}

// snapshots asks all workers at once: each answers when the fact that it is at has its ack.
func (t *term) snapshots(ctx context.Context, all bool) map[*worker][]changed {
	out := make([][]changed, len(t.workers))
	var asked sync.WaitGroup
	for i, w := range t.workers {
		asked.Go(func() { out[i] = w.ask(ctx, snapshotRequest{all: all}) })
	}
	asked.Wait()
	answers := make(map[*worker][]changed, len(out))
	for i, w := range t.workers {
		answers[w] = out[i]
	}
	return answers
}

// ask gets a snapshot of a worker, directly once it has stopped.
func (w *worker) ask(ctx context.Context, r snapshotRequest) []changed {
	r.answer = make(chan []changed, 1)
	select {
	case w.snapshots <- r:
		return <-r.answer
	case <-w.stopped:
		w.mu.Lock()
		w.snapshot(r)
		w.mu.Unlock()
		return <-r.answer
	case <-ctx.Done():
		return nil
	}
}

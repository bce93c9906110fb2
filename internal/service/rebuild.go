package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

const (
	rebuildReports  = 2 * time.Second // between reports of how far it has come
	mostDifferences = 20              // that are named in a report; all are in the log
)

// rebuilds are what a term does to fold again from the stream while it decides.
type rebuilds struct {
	asked   chan *events.Event // claims; one waits at most
	rewrite atomic.Pointer[rewriting]
}

// rewriting asks the saver to write all folds over what the store has.
type rewriting struct{ done chan struct{} }

// askRebuild notes a claim that asks for a rebuild; the one who is at another will meet it behind that.
func (t *term) askRebuild(e *events.Event) {
	if _, ok := e.Content.(events.RebuildRequested); !ok || e.Kind != events.Claim || e.Project != internalProject {
		return
	}
	select {
	case t.rebuilds.asked <- e:
	default:
		t.log.Warn("two rebuilds are asked for already; a third is not done", zap.String("request", e.ID))
	}
}

// rebuildWhenAsked folds again from the stream, once for each request, until ctx ends.
func (t *term) rebuildWhenAsked(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case request := <-t.rebuilds.asked:
			report := events.RebuildReported{Request: request.ID}
			began := time.Now()
			err := t.rebuild(ctx, &report, func() {
				report.Seconds = time.Since(began).Seconds()
				if err := t.reportRebuild(ctx, request, report); err != nil && ctx.Err() == nil {
					t.log.Warn("how far a rebuild has come could not be reported", zap.Error(err))
				}
			})
			if ctx.Err() != nil {
				return nil //nolint:nilerr // the term was ended; whoever asked gets no report, and asks again
			}
			report.Finished, report.Seconds = true, time.Since(began).Seconds()
			if err != nil {
				report.Failed = err.Error()
				t.log.Error("a rebuild failed; the folds stay as they were", zap.Error(err))
			}
			for ctx.Err() == nil {
				if err = t.reportRebuild(ctx, request, report); err == nil {
					break
				}
				t.log.Warn("the outcome of a rebuild can not be reported; trying again", zap.Error(err))
				wait(ctx, time.Second)
			}
			t.log.Info("folded again from the stream", zap.Uint64("facts", report.Facts), zap.Int("aggregates", report.Aggregates),
				zap.Int("differing", report.Differing), zap.Float64("seconds", report.Seconds))
		}
	}
}

func (t *term) reportRebuild(ctx context.Context, request *events.Event, report events.RebuildReported) error {
	out := resulter{host: t.host, phase: t.def.Phase, source: "rebuild"}
	_, err := out.publish(ctx, outcome{
		project: internalProject, chain: request.Chain, cause: request.ID,
		id:     events.FactID(t.host.Stream, request.Sequence, fmt.Sprintf("rebuild/%d/%v", report.Facts, report.Finished), internalProject, t.lease.owner, events.TypeOf(report)),
		Report: Report{Content: report, Key: request.ID},
	})
	return err
}

// rebuild folds every fact of the phase again, beside the workers, which go on deciding; then lets each worker take over
// one partition after the other, compared with its own, and writes the store anew. Folds are held twice for as long as it
// takes; facts are read one at a time. tell is called now and then in between. When events go meanwhile that were still to be
// read, it begins again, from the snapshot for which they went.
func (t *term) rebuild(ctx context.Context, report *events.RebuildReported, tell func()) error {
	for {
		err := t.rebuildOnce(ctx, report, tell)
		if !errors.Is(err, errGone) {
			return err
		}
		t.log.Warn("a rebuild begins again", zap.Error(err))
		*report = events.RebuildReported{Request: report.Request}
	}
}

func (t *term) rebuildOnce(ctx context.Context, report *events.RebuildReported, tell func()) error {
	stream, err := t.host.JS.Stream(ctx, natsd.Lifecycle)
	if err != nil {
		return fmt.Errorf("look at the stream: %w", err)
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("look at the stream: %w", err)
	}
	t.faults.hasLooked()
	fresh, from := map[fold.PartitionID]*partition{}, uint64(1)
	if info.State.FirstSeq > 1 { // what is gone is taken as the snapshot has it
		base, err := findKept(ctx, t.host, t.def.Phase, info.State.FirstSeq, info.State.LastSeq)
		if err != nil {
			return err
		}
		if fresh, err = t.partitionsOf(base); err != nil {
			return err
		}
		from = base.Floor + 1
		t.log.Info("events before are gone: folding on from a snapshot", zap.Uint64("from", from))
	}
	if err := t.foldAgain(ctx, fresh, from, info.State.LastSeq, report, tell); err != nil {
		return err
	}
	if err := nothingGone(ctx, t.host.JS, info.State.FirstSeq); err != nil {
		return err
	}
	for i, w := range t.workers {
		ids := w.ask(ctx, snapshotRequest{names: true})
		for _, c := range ids { // also those that the stream does not know of
			if fresh[c.id] == nil {
				fresh[c.id] = newPartition(t.def.Phase, c.id)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for id, p := range fresh {
			if t.workerOf(id) != t.workers[i] {
				continue
			}
			swap := &swapping{fresh: p, first: info.State.FirstSeq, done: make(chan error, 1)}
			select {
			case w.swaps <- swap:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := <-swap.done; err != nil {
				return err
			}
			delete(fresh, id) // the worker's from now on
			report.Aggregates += swap.compared
			for _, what := range swap.differing {
				report.Differing++
				t.log.Error("a fold was not what the stream says; it is now", zap.String("aggregate", what))
				if len(report.Differences) < mostDifferences {
					report.Differences = append(report.Differences, what)
				}
			}
		}
	}
	slices.Sort(report.Differences)
	tell()
	rewritten := &rewriting{done: make(chan struct{})}
	t.rebuilds.rewrite.Store(rewritten)
	select {
	case <-rewritten.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// foldAgain folds the facts of the phase from one sequence of the stream to another.
func (t *term) foldAgain(ctx context.Context, fresh map[fold.PartitionID]*partition, from, end uint64, report *events.RebuildReported, tell func()) error {
	facts := fmt.Sprintf("%s.*.%s.*.*.*", events.Stated, t.def.Phase)
	last, err := LastOf(ctx, t.host, natsd.Lifecycle, facts)
	if err != nil || last < from {
		return err
	}
	told := time.Now()
	return tail(ctx, t.host.JS, t.log, []string{facts}, from, func(m Message) error {
		if m.Sequence > end {
			return errStop
		}
		id, placed := placeOf(m)
		if !placed {
			return fmt.Errorf("fact %d can not be placed on %s", m.Sequence, m.Subject())
		}
		p := fresh[id]
		if p == nil {
			p = newPartition(t.def.Phase, id)
			fresh[id] = p
		}
		t.foldStored(p, m)
		report.Facts++
		report.Sequence = m.Sequence
		if time.Since(told) > rebuildReports {
			tell()
			told = time.Now()
		}
		if m.Sequence >= min(last, end) {
			return errStop
		}
		return nil
	})
}

// foldStored folds a message of the stream, or stops its partition when it can not be read.
func (t *term) foldStored(p *partition, m Message) {
	e, err := m.Event()
	if err != nil {
		t.stopPartition(p, m.Sequence, err)
		return
	}
	t.foldInto(p, e)
}

// swapping hands a partition that was folded anew to its worker.
type swapping struct {
	fresh     *partition
	first     uint64 // where the stream began when it was folded
	compared  int
	differing []string
	done      chan error
}

// swap takes a partition over that was folded anew. Between two tasks nobody else writes facts of it, but for a
// predecessor that the fence stops; so both stand at the same fact when both have read to the end.
func (w *worker) swap(ctx context.Context, s *swapping) {
	id := s.fresh.id
	old := w.partitions[id]
	if old == nil {
		old = newPartition(w.term.def.Phase, id)
	}
	behind := s.fresh.last != old.last
	err := w.term.level(ctx, s.fresh, old)
	if err == nil && behind { // what it read may have gone in part
		err = nothingGone(ctx, w.term.host.JS, s.first)
	}
	if err != nil {
		s.done <- err
		return
	}
	s.compare(w.term.kinds, old)
	w.partitions[id] = s.fresh
	s.done <- nil
}

// level reads until both stand at the same fact, or the fresh one has all that the leader has and the old one claims to
// have met more. Facts are read of any server of a cluster, and one that lags behind answers that there are none.
func (t *term) level(ctx context.Context, fresh, old *partition) error {
	ctx, cancel := context.WithTimeoutCause(ctx, lagTimeout, errLagging)
	defer cancel()
	for fresh.last != old.last {
		err := t.catchUp(ctx, fresh)
		if err == nil && fresh.last != old.last {
			err = t.catchUp(ctx, old)
		}
		if err == nil && fresh.last < old.last {
			var last uint64
			if last, err = LastOf(ctx, t.host, natsd.Lifecycle, fresh.fence); err == nil && last < old.last && fresh.last >= last {
				return nil
			}
		}
		if err == nil && fresh.last != old.last {
			wait(ctx, lagPause)
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("fold partition %d of %s anew: %w", fresh.id.Partition, fresh.id.Project, errors.Join(err, context.Cause(ctx)))
		}
	}
	return nil
}

// compare finds the aggregates that the worker had otherwise than the stream says.
func (s *swapping) compare(kinds map[string]*Aggregate, old *partition) {
	for f := range s.fresh.folded {
		s.compared++
		if !sameFold(kinds[f.kind], s.fresh.folded[f], old.folded[f]) {
			s.differing = append(s.differing, s.fresh.id.Project+" "+f.String())
		}
	}
	for f := range old.folded {
		if s.fresh.folded[f] == nil {
			s.compared++
			s.differing = append(s.differing, s.fresh.id.Project+" "+f.String())
		}
	}
	slices.Sort(s.differing)
}

// sameFold compares two folds as they are saved.
func sameFold(kind *Aggregate, a, b *aggregate) bool {
	switch {
	case a == nil || b == nil:
		return false
	case a.watermark != b.watermark || (a.broken == nil) != (b.broken == nil):
		return false
	case a.broken != nil || kind == nil:
		return true
	}
	x, err := kind.encode(a.state)
	if err != nil {
		return false
	}
	y, err := kind.encode(b.state)
	return err == nil && (bytes.Equal(x, y) || sameJSON(x, y))
}

// sameJSON compares states that differ as text: a fact that was decided here may have an empty list where the same one,
// read from the stream, has none.
func sameJSON(x, y []byte) bool {
	var a, b any
	return json.Unmarshal(x, &a) == nil && json.Unmarshal(y, &b) == nil && reflect.DeepEqual(withoutNothing(a), withoutNothing(b))
}

// withoutNothing leaves out what is empty; nil when nothing is left.
func withoutNothing(v any) any {
	switch v := v.(type) {
	case []any:
		if len(v) == 0 {
			return nil
		}
		for i := range v {
			v[i] = withoutNothing(v[i])
		}
	case map[string]any:
		for name := range v {
			if v[name] = withoutNothing(v[name]); v[name] == nil {
				delete(v, name)
			}
		}
		if len(v) == 0 {
			return nil
		}
	}
	return v
}

// forgetSaved empties the store of this phase's folds when a rebuild asked for it, so that what follows is written whole
// over whatever was there. The position goes first: a store without it is read by nobody.
func (t *term) forgetSaved(ctx context.Context) error {
	if t.rebuilds.rewrite.Load() == nil {
		return nil
	}
	if err := t.host.Folds.Forget(ctx, t.completeName(), t.scope()); err != nil {
		return err
	}
	t.complete = 0
	return nil
}

// rewrote tells a rebuild that the store has been written.
func (t *term) rewrote(r *rewriting) {
	if r != nil && t.rebuilds.rewrite.CompareAndSwap(r, nil) {
		close(r.done)
	}
}

// RebuildStates reads the reports that the phases have given on a request, the latest of each phase.
func RebuildStates(ctx context.Context, h Host, after uint64, request string) (map[events.Phase]events.RebuildReported, error) {
	states := map[events.Phase]events.RebuildReported{}
	filters := []string{events.Filter(events.Result, internalProject, "", events.TypeOf(events.RebuildReported{}))}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	reader, err := natsd.NewReader(ctx, h.JS, natsd.Lifecycle, filters, after+1)
	if err != nil {
		return nil, fmt.Errorf("the reports of rebuilds: %w", err)
	}
	defer reader.Close(ctx)
	for range reader.Pending() {
		m, _, err := reader.Next()
		if err != nil {
			return nil, fmt.Errorf("the reports of rebuilds: %w", err)
		}
		e, err := events.Decode(m.Headers(), m.Data())
		if err != nil {
			continue
		}
		if r, ok := e.Content.(events.RebuildReported); ok && r.Request == request && !states[e.Phase].Finished {
			states[e.Phase] = r
		}
	}
	return states, nil
}

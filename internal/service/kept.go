package service

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/snapshot"
	"github.com/lemnis/lemnis/pkg/events"
)

// kept is a phase as it was at a place of the stream: all that its processes would otherwise fold from the beginning.
type kept struct {
	Floor       uint64                    `json:"floor"` // that the partitions were collected at
	Kinds       map[string]int            `json:"kinds"` // versions of the folds
	Projects    []keptProject             `json:"projects"`
	Partitions  []keptPartition           `json:"partitions"`
	Projections map[string]keptProjection `json:"projections"`
}

// keptProject is a configuration that came into force. Those that the stream has no more are there once a project.
type keptProject struct {
	Sequence uint64                   `json:"sequence"`
	Name     string                   `json:"name"`
	Content  events.ProjectConfigured `json:"content"`
}

type keptPartition struct {
	Project   string            `json:"project"`
	Partition int               `json:"partition"`
	Sequence  uint64            `json:"sequence"`
	Fields    map[string][]byte `json:"fields"`
}

type keptProjection struct {
	Sequence uint64          `json:"sequence"`
	State    json.RawMessage `json:"state"`
}

// keepSnapshots keeps snapshots on the bus now and then, for as long as the stream says that old events go.
func (t *term) keepSnapshots(ctx context.Context) error {
	for {
		if wait(ctx, t.host.Timing.Snapshot); ctx.Err() != nil {
			return nil //nolint:nilerr // drained
		}
		if err := t.keepSnapshot(ctx); err != nil && ctx.Err() == nil {
			t.log.Warn("the folds are not kept on the bus; no events go meanwhile", zap.Error(err))
		}
	}
}

func (t *term) keepSnapshot(ctx context.Context) error {
	stream, err := t.host.JS.Stream(ctx, natsd.Lifecycle)
	if err != nil {
		return err
	}
	info := stream.CachedInfo()
	if natsd.RetainOf(info) == 0 {
		return nil
	}
	if troubles := t.troubles.list(); len(troubles) > 0 {
		return errors.New(troubles[0])
	}
	k := kept{Kinds: t.versions(), Projections: map[string]keptProjection{}}
	if k.Floor, err = t.place(ctx); err != nil {
		return err
	}
	if k.Projects, err = t.configurations(ctx, info.State.FirstSeq, k.Floor); err != nil {
		return err
	}
	if err := nothingGone(ctx, t.host.JS, info.State.FirstSeq); err != nil { // a configuration may be among it
		return err
	}
	for _, w := range t.workers { // at the floor or behind it: what comes again is known by its watermark
		for _, c := range w.ask(ctx, snapshotRequest{all: true, peek: true}) {
			fields, err := t.encode(c)
			if err != nil {
				return err
			}
			k.Partitions = append(k.Partitions, keptPartition{c.id.Project, c.id.Partition, c.last, fields})
		}
	}
	label := k.Floor
	for _, p := range t.projectors {
		state, err := p.keep(ctx, t.host)
		if err != nil {
			return err
		}
		k.Projections[p.Name] = state
		label = min(label, state.Sequence)
	}
	content, err := json.Marshal(k)
	if err == nil {
		err = t.lease.mine(ctx) // one that was paused may be behind the owner
	}
	if err != nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	return snapshot.Write(ctx, t.host.JS, string(t.def.Phase), label, content)
}

// place is up to where everything is handled: the floor, or the end of the stream when nothing for the phase is behind the
// floor. The stream's leader is asked; a follower may not know of it yet.
func (t *term) place(ctx context.Context) (uint64, error) {
	end, err := lastSequence(ctx, t.host.JS)
	if err != nil {
		return 0, err
	}
	floor := t.handled()
	last, err := LastOf(ctx, t.host, natsd.Lifecycle, causeFilters(t.def.Phase, t.takes)...)
	if err != nil || last > floor {
		return floor, err
	}
	return max(floor, end), nil
}

// versions of the folds by kind.
func (t *term) versions() map[string]int {
	v := make(map[string]int, len(t.kinds))
	for name, k := range t.kinds {
		v[name] = k.version
	}
	return v
}

// configurations are those that came into force up to a place: what the stream has, behind what a snapshot knows of before.
func (t *term) configurations(ctx context.Context, first, upTo uint64) ([]keptProject, error) {
	latest := map[string]keptProject{}
	if first > 1 {
		base, err := findKept(ctx, t.host, t.def.Phase, first, upTo)
		if err != nil {
			return nil, err
		}
		for _, p := range base.Projects {
			if p.Sequence < first {
				latest[p.Name] = p
			}
		}
	}
	all := make([]keptProject, 0, len(latest))
	for _, p := range latest {
		all = append(all, p)
	}
	last, err := LastOf(ctx, t.host, natsd.Lifecycle, projectFilter)
	if err == nil && last >= first {
		err = tail(ctx, t.host.JS, t.log, []string{projectFilter}, first, func(m Message) error {
			if m.Sequence > upTo {
				return errStop
			}
			if e, err := m.Event(); err == nil { // what can not be read never came into force
				if c, ok := e.Content.(events.ProjectConfigured); ok {
					all = append(all, keptProject{m.Sequence, e.Project, c})
				}
			}
			if m.Sequence >= last {
				return errStop
			}
			return nil
		})
	}
	slices.SortFunc(all, func(a, b keptProject) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return all, err
}

// findKept is the latest snapshot of a phase that leaves no gap before the first event of the stream, and is not beyond an
// end of it.
func findKept(ctx context.Context, h Host, phase events.Phase, first, end uint64) (*kept, error) {
	heads, err := snapshot.Read(ctx, h.JS, string(phase))
	if err != nil {
		return nil, err
	}
	all := []error{fmt.Errorf("the stream begins at %d, and no snapshot of %s that reaches there can be used", first, phase)}
	for _, head := range heads {
		if head.Sequence+1 < first || head.Sequence > end {
			continue
		}
		content, err := head.Content(ctx, h.JS)
		k := new(kept)
		if err == nil {
			err = json.Unmarshal(content, k)
		}
		if err == nil {
			return k, nil
		}
		all = append(all, err)
	}
	return nil, errors.Join(all...)
}

// loadKept finds what stands for the events that the stream has no more; nil when it has them all.
func (t *term) loadKept(ctx context.Context, barrier uint64) (base *kept, first uint64, err error) {
	stream, err := t.host.JS.Stream(ctx, natsd.Lifecycle)
	if err != nil {
		return nil, 0, err
	}
	info := stream.CachedInfo()
	if natsd.RetainOf(info) > 0 || info.State.FirstSeq > 1 {
		if err := snapshot.ForgetBeyond(ctx, t.host.JS, string(t.def.Phase), barrier); err != nil {
			return nil, 0, err
		}
	}
	if first = info.State.FirstSeq; first <= 1 {
		return nil, first, nil
	}
	base, err = findKept(ctx, t.host, t.def.Phase, first, barrier)
	return base, first, err
}

// partitionsOf reads the partitions of a snapshot, which this version of the folds has to understand: they can not be folded
// again.
func (t *term) partitionsOf(base *kept) (map[fold.PartitionID]*partition, error) {
	for name, k := range t.kinds {
		if was, known := base.Kinds[name]; known && was != k.version {
			return nil, fmt.Errorf("the snapshot holds version %d of %s, this program understands %d, and the events are gone", was, name, k.version)
		}
	}
	loaded := make(map[fold.PartitionID]*partition, len(base.Partitions))
	for _, p := range base.Partitions {
		id := fold.PartitionID{Project: p.Project, Partition: p.Partition}
		var err error
		if loaded[id], err = loadPartition(t.def.Phase, t.kinds, id, fold.Partition{Sequence: p.Sequence, Fields: p.Fields}); err != nil {
			return nil, err
		}
		loaded[id].saved = 0 // not in the store
	}
	return loaded, nil
}

// projector is a projection at work.
type projector struct {
	Projection

	filters []string
	mu      sync.Mutex // held while the state and the place change
	at      uint64     // of the last fact that was applied
}

func newProjector(p Projection) *projector {
	r := &projector{Projection: p}
	for _, t := range p.On {
		r.filters = append(r.filters, events.Filter(events.Stated, "", "", t))
	}
	return r
}

// keep renders the state, with the place up to which it knows all.
func (p *projector) keep(ctx context.Context, h Host) (keptProjection, error) {
	if p.Save == nil {
		return keptProjection{}, fmt.Errorf("the projection %s can not be saved", p.Name)
	}
	end, err := lastSequence(ctx, h.JS)
	if err != nil {
		return keptProjection{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	k := keptProjection{Sequence: p.at}
	last, err := LastOf(ctx, h, natsd.Lifecycle, p.filters...)
	if err != nil {
		return k, err
	}
	if last <= p.at {
		k.Sequence = max(p.at, end)
	}
	k.State, err = p.Save()
	return k, err
}

// begin takes up the state that a snapshot of the phase has, where the stream has lost its beginning; from is where to read
// on, and first where the stream begins.
func (p *projector) begin(ctx context.Context, h Host, phase events.Phase) (from, first uint64, err error) {
	stream, err := h.JS.Stream(ctx, natsd.Lifecycle)
	if err != nil {
		return 0, 0, err
	}
	state := stream.CachedInfo().State
	p.mu.Lock()
	defer p.mu.Unlock()
	if state.FirstSeq <= p.at+1 { // it has met all that is gone
		return p.at + 1, state.FirstSeq, nil
	}
	base, err := findKept(ctx, h, phase, state.FirstSeq, state.LastSeq)
	if err != nil {
		return 0, 0, err
	}
	k, there := base.Projections[p.Name]
	if !there || p.Load == nil {
		return 0, 0, fmt.Errorf("the snapshot of %s does not have the projection %s", phase, p.Name)
	}
	if err := p.Load(k.State); err != nil {
		return 0, 0, fmt.Errorf("load the projection %s: %w", p.Name, err)
	}
	p.at = k.Sequence
	return k.Sequence + 1, state.FirstSeq, nil
}

func (p *projector) apply(m Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = m.Sequence
	e, err := m.Event()
	if err != nil {
		return err
	}
	return protect(func() error { p.Apply(e); return nil })
}

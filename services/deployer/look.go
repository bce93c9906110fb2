package deployer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/drift"
	"github.com/lemnis/lemnis/services/deployer/keeper"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

// seen is what a look found at a place, while the facts stood where they stand.
type seen struct {
	sequence uint64
	found    []drift.Difference
}

// look compares what runs with what the facts say, from time to time: what differs twice in a row, without a new fact in
// between, is said and mended.
func (s *site) look(ctx context.Context, r *service.Reporter) {
	tick := time.NewTicker(s.options.Look)
	defer tick.Stop()
	before := map[at]seen{}
	mends, counts := newTurns(s.patience, s.share), newTurns(countFor, s.share) // no look waits for one
	defer mends.all.Wait()
	defer counts.all.Wait()
	var tidied time.Time
	for told := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		state, err := s.front.Now(ctx)
		if err != nil {
			if ctx.Err() == nil && !told { // once: a front of a version before is asked in vain until it is replaced
				told = true
				s.options.Log("can not look for drift", "error", err.Error())
			}
			continue
		}
		told = false
		now := time.Now()
		s.record(ctx, counts, now)
		if now.Sub(tidied) >= tidyEvery {
			tidied = now
			s.tidy(state, now)
		}
		before = s.compare(ctx, r, state, before, mends)
	}
}

// spareEvery is how often is tried to have what is kept to go back to once that could not be had: nobody is served by it, and each time
// its registry is asked.
const spareEvery = 5 * time.Minute

// later reports whether a difference need not be mended yet.
func (s *site) later(where at, state rollout.State, d drift.Difference) bool {
	spare := s.wanted.running(where).onlySpare()
	if d.Kind != events.DriftGone || spare == nil || spare.id != d.Version || !state.Drifted(events.DriftLost, d.Version) {
		return false
	}
	now := time.Now()
	if now.Sub(s.retried[where]) < spareEvery {
		return true
	}
	s.retried[where] = now
	return false
}

const endedForAnother = "another tool deploys here now: what ran before is ended"

// compare returns what it found, for the look after it.
func (s *site) compare(ctx context.Context, r *service.Reporter, front keeper.State, before map[at]seen, mends *turns) map[at]seen {
	now := map[at]seen{}
	for where, have := range s.held(front) {
		state, sequence := s.wanted.at(where)
		outside := state.Serving != nil && state.Serving.Target == events.OutsideTarget
		found, ok := s.differences(where, state, have)
		if !ok {
			continue // it is being changed now
		}
		now[where] = seen{sequence, found}
		last := before[where]
		again := slices.DeleteFunc(slices.Clone(found), func(d drift.Difference) bool {
			return last.sequence != sequence || !slices.Contains(last.found, d)
		})
		for _, d := range again {
			if d.Kind == events.DriftUnknown && outside {
				continue // what ran before: its end is told by the mend
			}
			if !state.Drifted(d.Kind, d.Version) {
				s.tell(ctx, r, where, sequence, d.Version, events.DriftFound{Kind: d.Kind, Rollout: d.Version, Expected: d.Expected, Found: d.Found})
			}
		}
		for _, d := range state.Drifts {
			if !slices.ContainsFunc(found, func(f drift.Difference) bool { return f.Kind == seenAs(d.Kind) && f.Version == d.Runs }) {
				s.tell(ctx, r, where, sequence, d.Runs, events.DriftMended{Kind: d.Kind, Rollout: d.Runs})
			}
		}
		mendable := slices.DeleteFunc(again, func(d drift.Difference) bool {
			return d.Kind == events.DriftFlapping || d.Kind == events.DriftLimit || s.later(where, state, d)
		})
		if len(mendable) == 0 {
			continue
		}
		mends.begin(ctx, where, func(turn context.Context) {
			lost, err := s.mend(turn, where, mendable)
			for _, d := range lost {
				if now, sequence := s.wanted.at(where); !now.Drifted(d.Kind, d.Version) {
					s.tell(ctx, r, where, sequence, d.Version, events.DriftFound{Kind: d.Kind, Rollout: d.Version, Expected: d.Expected, Found: d.Found})
				}
			}
			if err != nil {
				if ctx.Err() == nil {
					s.options.Log("drift could not be mended; trying again", "at", where.String(), "error", err.Error())
				}
			}
		})
	}
	return now
}

// tell reports a difference, or its end. The same again, before the facts go on, is the same report.
func (s *site) tell(ctx context.Context, r *service.Reporter, where at, sequence uint64, version string, content any) {
	if r == nil {
		return
	}
	kind := ""
	switch c := content.(type) {
	case events.DriftFound:
		kind = "found/" + c.Kind
		s.options.Log("drift", "at", where.String(), "kind", c.Kind, "expected", c.Expected, "found", c.Found)
	case events.DriftMended:
		kind = "mended/" + c.Kind
	}
	once := fmt.Sprintf("%s/%s/%s@%d", where, kind, version, sequence)
	err := r.Report(ctx, where.project, "", once, service.Report{Key: where.key, Content: content, Phase: events.Deploy})
	if err != nil && ctx.Err() == nil {
		s.options.Log("drift could not be reported", "at", where.String(), "error", err.Error())
	}
}

// held sorts what the front holds by place; every place of the facts is there.
func (s *site) held(front keeper.State) map[at]held {
	all := map[at]held{}
	get := func(where at) held {
		h, ok := all[where]
		if !ok {
			h = held{have: drift.Have{Processes: map[string]drift.Process{}}, processes: map[string]keeper.Process{}}
		}
		return h
	}
	for _, where := range s.wanted.all() {
		all[where] = get(where)
	}
	named := func(door string) at {
		project, key, _ := strings.Cut(door, "/")
		return at{project, key}
	}
	for _, d := range front.Doors {
		h := get(named(d.Name))
		h.door = d
		h.have.Stable, h.have.Weight = d.Routes.Stable.Version, d.Routes.Weight
		if d.Routes.Canary != nil && d.Routes.Weight > 0 {
			h.have.Canary = d.Routes.Canary.Version
			if d.Routes.Baseline != nil {
				h.have.Baseline = d.Routes.Baseline.Version
			}
		}
		all[named(d.Name)] = h
	}
	for _, p := range front.Processes {
		h := get(named(p.Door))
		h.processes[p.Version] = p
		h.have.Processes[p.Version] = drift.Process{Digest: p.Digest, Flapping: p.Flapping, Over: p.Over}
		all[named(p.Door)] = h
	}
	return all
}

// held is what the front holds of a place.
type held struct {
	door      keeper.Door
	have      drift.Have
	processes map[string]keeper.Process
}

// differences of a place; ok is false while it converges, and before it was tried to.
func (s *site) differences(where at, state rollout.State, h held) (found []drift.Difference, ok bool) {
	s.mu.Lock()
	p, untried := s.places[where], s.untried[where]
	s.mu.Unlock()
	if untried {
		return nil, false
	}
	if p != nil {
		if !p.mu.try() {
			return nil, false
		}
		defer p.mu.free()
	}
	return s.compared(p, where, state, h), true
}

// compared are the differences of a place whose lock the caller holds; nil: of one that was not opened yet.
func (s *site) compared(p *place, where at, state rollout.State, h held) []drift.Difference {
	if p != nil {
		for id, one := range p.instances {
			if process, there := h.have.Processes[id]; there && (one.wanted != nil || one.ended != nil) {
				process.Ending = true
				h.have.Processes[id] = process
			}
		}
	}
	running := s.wanted.running(where)
	version := func(v *version) *drift.Version {
		if v == nil {
			return nil
		}
		return &drift.Version{ID: v.id, Digest: v.artifact.Digest}
	}
	want := drift.Want{Stable: version(running.stable), Candidate: version(running.candidate), Baseline: version(running.baseline), Spare: version(running.spare), Weight: running.weight}
	if state.Stage == rollout.Starting && running.candidate != nil { // its effect is at it
		want.Coming, want.Candidate = []string{running.candidate.id}, nil
		if running.baseline != nil {
			want.Coming, want.Baseline = append(want.Coming, running.baseline.id), nil
		}
	}
	return drift.Compare(want, h.have)
}

// seenAs is the kind of difference that a look finds where a mend found this one.
func seenAs(kind string) string {
	if kind == events.DriftLost {
		return events.DriftGone
	}
	return kind
}

// mend forgets what is not so, and converges. What could not be started again is lost. It goes by what is so now: the look that found it
// may be long ago, and what was found then be in order.
func (s *site) mend(ctx context.Context, where at, found []drift.Difference) (lost []drift.Difference, err error) {
	p, err := s.place(ctx, where)
	if err != nil {
		return nil, err
	}
	still, err := s.forget(ctx, p, found)
	if len(still) == 0 {
		return nil, err
	}
	converged := s.settle(ctx, where)
	if ctx.Err() == nil && !errors.Is(converged, keeper.ErrGone) && !errors.Is(converged, keeper.ErrHangs) {
		tried := startErrors(converged)
		if busy := p.mu.take(ctx); busy != nil {
			return nil, errors.Join(err, converged, busy)
		}
		for _, d := range still {
			if failed := tried[d.Version]; d.Kind == events.DriftGone && failed != nil && p.instances[d.Version] == nil {
				d.Kind, d.Found = events.DriftLost, "it can not be started again: "+failed.Error()
				lost = append(lost, d)
			}
		}
		p.mu.free()
	}
	err = errors.Join(err, converged)
	if state, _ := s.wanted.at(where); err == nil && state.Serving != nil && state.Serving.Target == events.OutsideTarget {
		for _, d := range still {
			if d.Kind == events.DriftUnknown {
				s.options.Log(endedForAnother, "at", where.String(), "rollout", d.Version)
			}
		}
	}
	return lost, err
}

// forget makes what is known of a place what the front says, as far as it differs, and returns what of the differences is still there.
func (s *site) forget(ctx context.Context, p *place, found []drift.Difference) ([]drift.Difference, error) {
	if err := p.mu.take(ctx); err != nil {
		return nil, err
	}
	defer p.mu.free()
	front, err := s.front.Now(ctx)
	if err != nil {
		return nil, err
	}
	h, there := s.held(front)[p.at]
	if !there {
		return nil, nil
	}
	state, _ := s.wanted.at(p.at)
	now := s.compared(p, p.at, state, h)
	still := slices.DeleteFunc(slices.Clone(found), func(d drift.Difference) bool {
		return !slices.ContainsFunc(now, func(n drift.Difference) bool { return n.Kind == d.Kind && n.Version == d.Version })
	})
	for _, d := range still {
		one := p.instances[d.Version]
		switch {
		case d.Kind == events.DriftRoutes:
			p.routes = h.door.Routes
		case d.Kind == events.DriftUnknown && one == nil:
			process := h.processes[d.Version]
			p.instances[d.Version] = &instance{url: process.URL, digest: process.Digest}
		case d.Kind == events.DriftGone && one != nil && one.ended == nil:
			delete(p.instances, d.Version)
		case d.Kind == events.DriftArtifact:
			delete(p.instances, d.Version)
			err = errors.Join(err, s.front.Stop(ctx, p.at.String(), d.Version))
		}
	}
	return still, err
}

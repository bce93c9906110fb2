package deployer

import (
	"context"
	"slices"
	"sync"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

// at names a service in an environment of a project.
type at struct{ project, key string }

func (a at) String() string { return a.project + "/" + a.key }

// wanted folds the facts of the phase, as the aggregates do: what has to run, and at which weight.
type wanted struct {
	mu       sync.Mutex
	states   map[at]rollout.State
	last     map[at]uint64   // sequence of the fact folded last
	started  map[string]bool // rollouts that Lemnis started itself, by project and id; others are an outside tool's
	projects map[string]events.Project
	changed  chan struct{} // closed, and replaced, when anything changes
}

func newWanted() *wanted {
	return &wanted{states: map[at]rollout.State{}, last: map[at]uint64{}, started: map[string]bool{}, projects: map[string]events.Project{}, changed: make(chan struct{})}
}

func (w *wanted) apply(e events.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() {
		close(w.changed)
		w.changed = make(chan struct{})
	}()
	if c, ok := e.Content.(events.ProjectConfigured); ok {
		p := c.Project
		p.Name = e.Project
		w.projects[e.Project] = p
		return
	}
	place := at{e.Project, e.Key}
	if e.Phase != events.Deploy || e.Aggregate != rollout.Kind || e.Sequence <= w.last[place] {
		return
	}
	before := w.states[place]
	after := rollout.Evolve(before, e)
	w.states[place], w.last[place] = after, e.Sequence
	if c, ok := e.Content.(events.DeploymentStarted); ok && c.Rollout.Target != events.OutsideTarget {
		w.started[e.Project+"/"+c.Rollout.ID] = true
	}
	// What neither serves nor is in flight any more is forgotten.
	for _, id := range []string{before.Current.Rollout.ID, serving(before), spare(before)} {
		if id != "" && id != after.Current.Rollout.ID && id != serving(after) && id != spare(after) {
			delete(w.started, e.Project+"/"+id)
		}
	}
}

func serving(s rollout.State) string {
	if s.Serving == nil {
		return ""
	}
	return s.Serving.Rollout
}

func spare(s rollout.State) string {
	kept, _ := s.Spare()
	return kept.Rollout
}

// get is the state, and a channel that is closed when anything changes after it.
func (w *wanted) get(place at) (rollout.State, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.states[place], w.changed
}

// reach waits until the fact is folded: an effect may be told of it before the projection is.
func (w *wanted) reach(ctx context.Context, fact events.Event) error {
	place := at{fact.Project, fact.Key}
	for {
		w.mu.Lock()
		there, changed := w.last[place] >= fact.Sequence, w.changed
		w.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// at is the state, and the sequence of the fact folded last.
func (w *wanted) at(place at) (rollout.State, uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.states[place], w.last[place]
}

func (w *wanted) all() []at {
	w.mu.Lock()
	defer w.mu.Unlock()
	places := make([]at, 0, len(w.states))
	for p := range w.states {
		places = append(places, p)
	}
	return places
}

// artifacts are the digests of all that serves, is on its way, or may be gone back to.
func (w *wanted) artifacts() map[string]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string]bool{}
	for _, s := range w.states {
		all[s.Current.Rollout.Artifact.Digest] = true
		if s.Queued != nil {
			all[s.Queued.Rollout.Artifact.Digest] = true
		}
		for _, i := range s.Good {
			all[i.Artifact.Digest] = true
		}
		if s.Serving != nil {
			all[s.Serving.Artifact.Digest] = true
		}
		if s.Kept != nil {
			all[s.Kept.Artifact.Digest] = true
		}
	}
	return all
}

func (w *wanted) project(name string) events.Project {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p, ok := w.projects[name]; ok {
		return p
	}
	return events.DefaultProject(name)
}

// version is an artifact that has to run.
type version struct {
	id       string // of the rollout that started its process
	artifact events.ArtifactDetail
}

// key tells versions apart, also one that is started as the same rollout with another artifact.
func (v version) key() string { return v.id + "@" + v.artifact.Digest }

// running is what has to run at a place: stable for all users but the candidate's share, and the same share of baseline where there is
// one; spare for nobody.
type running struct {
	stable, candidate, baseline, spare *version
	weight                             float64
}

// onlySpare is the spare that is no other of the versions.
func (r running) onlySpare() *version {
	if r.spare != nil && slices.ContainsFunc(r.users(), func(v version) bool { return v.id == r.spare.id }) {
		return nil
	}
	return r.spare
}

// users are the versions that users are or may be served by.
func (r running) users() []version {
	var all []version
	for _, v := range []*version{r.stable, r.candidate, r.baseline} {
		if v != nil {
			all = append(all, *v)
		}
	}
	return all
}

func (w *wanted) running(place at) running {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.states[place]
	var r running
	if s.Serving != nil && w.started[place.project+"/"+s.Serving.Rollout] {
		r.stable = &version{s.Serving.Runs(), s.Serving.Artifact}
	}
	if c, weight, ok := s.Candidate(); ok {
		r.candidate, r.weight = &version{c.Runs(), c.Artifact}, weight
		if weight >= 1 {
			r.stable, r.candidate, r.weight = r.candidate, nil, 0
		}
	}
	if fresh, ok := s.FreshBaseline(); ok && r.stable != nil {
		r.baseline = &version{fresh.Rollout, fresh.Artifact}
	}
	if kept, ok := s.Spare(); ok && w.started[place.project+"/"+kept.Rollout] {
		r.spare = &version{kept.Runs(), kept.Artifact}
	}
	return r
}

package gateway

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/access"
)

const (
	mostProjects = 2000 // that the overview knows; the one that was silent for longest gives way
	mostMoving   = 200  // that are shown of one phase of a project; twice as many are known
)

// overview is a fold of facts in memory: what moves in each phase of each project, and how much was said.
type overview struct {
	log   *zap.Logger
	ready chan struct{} // closed when it has met the end that the stream had at the start

	mu       sync.RWMutex
	sequence uint64
	projects map[string]*projectView
	changed  map[string]bool // projects that the store does not have as they are
	besides  bool            // what is met is kept in beside, for an overview that is about to take over
	beside   []service.Message
}

// projectView is one project. It is saved as it is: see overviewVersion.
type projectView struct {
	Config *events.Project             `json:"config,omitempty"` // nil: the default one
	Last   time.Time                   `json:"last"`
	Phases map[events.Phase]*phaseView `json:"phases"`
}

// phaseView is one phase of a project.
type phaseView struct {
	Facts  uint64             `json:"facts"`
	Claims uint64             `json:"claims"`
	Last   time.Time          `json:"last"`
	Moving map[string]*moving `json:"moving"` // by kind/key
}

func newOverview(log *zap.Logger) *overview {
	return &overview{log: log, ready: make(chan struct{}), projects: map[string]*projectView{}, changed: map[string]bool{}}
}

// project is the configuration in force; it waits until all that the stream had at the start is known.
func (o *overview) project(ctx context.Context, name string) (events.Project, error) {
	c, err := o.config(ctx, name)
	if err != nil || c == nil {
		return events.DefaultProject(name), err
	}
	return *c, nil
}

// configured reports whether the configuration of a project was accepted; it waits as project does.
func (o *overview) configured(ctx context.Context, name string) (bool, error) {
	c, err := o.config(ctx, name)
	return c != nil, err
}

func (o *overview) config(ctx context.Context, name string) (*events.Project, error) {
	ctx, cancel := context.WithTimeout(ctx, beginTimeout)
	defer cancel()
	select {
	case <-o.ready:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: the projects are not read yet", errAway)
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	if p := o.projects[name]; p != nil {
		return p.Config, nil
	}
	return nil, nil
}

// names are the projects that were spoken of, in no order.
func (o *overview) names() []string {
	o.mu.RLock()
	defer o.mu.RUnlock()
	var all []string
	for name := range o.projects {
		if events.ValidProject(name) == nil {
			all = append(all, name)
		}
	}
	return all
}

// meet counts a message by its subject, and decodes it only when it moves something.
func (o *overview) meet(m service.Message) {
	tokens := strings.Split(m.Subject(), ".")
	if len(tokens) != 6 {
		return
	}
	var e *events.Event
	if m.Kind == events.Stated && movers[tokens[3]+"."+tokens[4]] {
		decoded, err := m.Event()
		if err != nil {
			o.log.Error("the overview passes over an event", zap.Uint64("sequence", m.Sequence), zap.Error(err))
		} else {
			e = &decoded
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sequence = m.Sequence
	if o.besides {
		o.beside = append(o.beside, m)
	}
	p := o.view(tokens[1])
	o.changed[tokens[1]] = true
	f := p.phase(events.Phase(tokens[2]))
	if f == nil {
		return
	}
	p.Last, f.Last = m.Stored, m.Stored
	if m.Kind == events.Claim {
		f.Claims++
		return
	}
	f.Facts++
	if e != nil {
		e.Stored = m.Stored
		p.fold(*e)
	}
}

// view finds a project, or begins it.
func (o *overview) view(name string) *projectView {
	if p := o.projects[name]; p != nil {
		return p
	}
	if len(o.projects) >= mostProjects {
		oldest := ""
		for other, p := range o.projects {
			if oldest == "" || p.Last.Before(o.projects[oldest].Last) {
				oldest = other
			}
		}
		delete(o.projects, oldest)
		o.changed[oldest] = true
	}
	p := &projectView{Phases: map[events.Phase]*phaseView{}}
	o.projects[name] = p
	return p
}

func (p *projectView) phase(name events.Phase) *phaseView {
	f := p.Phases[name]
	if f == nil && name.Valid() {
		f = &phaseView{Moving: map[string]*moving{}}
		p.Phases[name] = f
	}
	return f
}

// movingAnswer is one thing that moves, as the dashboard reads it.
type movingAnswer struct {
	Kind  string    `json:"kind"`
	Key   string    `json:"key"`
	Title string    `json:"title"`
	State string    `json:"state"`
	Since time.Time `json:"since"`
	Chain string    `json:"chain"`
}

type phaseAnswer struct {
	Phase  events.Phase   `json:"phase"`
	Facts  uint64         `json:"facts"`
	Claims uint64         `json:"claims"`
	Last   *time.Time     `json:"last,omitempty"`
	Moving []movingAnswer `json:"moving"`
}

type overviewAnswer struct {
	Projects []string      `json:"projects"`
	Project  string        `json:"project"`
	Sequence uint64        `json:"sequence"` // that all this stands at
	Phases   []phaseAnswer `json:"phases"`
}

// showOverview answers GET /api/v1/overview: of the project that is asked for, else of the one that something happened
// in last.
func (g *Gateway) showOverview(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("project")
	if name != "" {
		if err := events.ValidProject(name); err != nil {
			g.fail(w, r, refuse(http.StatusBadRequest, "%v", err))
			return
		}
	}
	select {
	case <-g.overview.ready:
	default:
		g.fail(w, r, refuse(http.StatusServiceUnavailable, "the overview is being built; try again in a moment"))
		return
	}
	g.write(w, http.StatusOK, "application/json", g.overview.answer(name, access.From(r.Context()).MayRead))
}

// answer leaves out the projects that whoever asks may not see.
func (o *overview) answer(name string, visible func(project string) bool) overviewAnswer {
	o.mu.RLock()
	defer o.mu.RUnlock()
	a := overviewAnswer{Projects: []string{}, Sequence: o.sequence, Phases: []phaseAnswer{}}
	latest := ""
	for n, p := range o.projects {
		if !visible(n) {
			continue
		}
		a.Projects = append(a.Projects, n)
		if latest == "" || p.Last.After(o.projects[latest].Last) {
			latest = n
		}
	}
	slices.Sort(a.Projects)
	if name == "" {
		name = latest
	}
	if a.Project = name; name == "" {
		return a
	}
	for _, phase := range events.Phases() {
		one := phaseAnswer{Phase: phase, Moving: []movingAnswer{}}
		if p := o.projects[name]; p != nil && p.Phases[phase] != nil {
			f := p.Phases[phase]
			last := f.Last.UTC()
			one.Facts, one.Claims, one.Last, one.Moving = f.Facts, f.Claims, &last, f.list()
		}
		a.Phases = append(a.Phases, one)
	}
	return a
}

// list orders what moves: by rank where there is one, else what changed last first.
func (f *phaseView) list() []movingAnswer {
	all := make([]*moving, 0, len(f.Moving))
	for _, m := range f.Moving {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *moving) int {
		switch {
		case a.Rank > 0 && b.Rank > 0 && a.Rank != b.Rank:
			return a.Rank - b.Rank
		case (a.Rank > 0) != (b.Rank > 0):
			return b.Rank - a.Rank
		case !a.Since.Equal(b.Since):
			return b.Since.Compare(a.Since)
		}
		return strings.Compare(a.Key, b.Key)
	})
	all = all[:min(len(all), mostMoving)]
	out := make([]movingAnswer, len(all))
	for i, m := range all {
		out[i] = movingAnswer{Kind: m.Kind, Key: m.Key, Title: m.Title, State: m.State, Since: m.Since.UTC(), Chain: m.Chain}
	}
	return out
}

package builder

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/queue"
)

// runs is the read model of which runs of queues still matter, so that one that does not is stopped. Correctness does not rest on it.
type runs struct {
	mu    sync.Mutex
	lines map[lineOf]*line
}

type lineOf struct{ project, repository string }

type line struct {
	last  int // run that was begun last
	alive map[int]bool
	stop  map[int]context.CancelFunc // of those that run in this process
}

func newRuns() *runs { return &runs{lines: map[lineOf]*line{}} }

func (r *runs) line(project, repository string) *line {
	at := lineOf{project, repository}
	if r.lines[at] == nil {
		r.lines[at] = &line{alive: map[int]bool{}, stop: map[int]context.CancelFunc{}}
	}
	return r.lines[at]
}

func (r *runs) apply(e events.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch c := e.Content.(type) {
	case events.QueuePlanned:
		l := r.line(e.Project, c.Repository)
		for _, b := range c.Begun {
			l.last, l.alive[b.Number] = max(l.last, b.Number), true
		}
		for _, number := range c.Over {
			l.end(number)
		}
	case events.PipelineRunFinished:
		if number := queue.RunNumber(c.Lemnis.Merge.Repository, e.Key); number > 0 {
			r.line(e.Project, c.Lemnis.Merge.Repository).end(number)
		}
	}
}

func (l *line) end(number int) {
	delete(l.alive, number)
	if stop := l.stop[number]; stop != nil {
		stop()
	}
}

func (l *line) over(number int) bool { return number <= l.last && !l.alive[number] }

// watch is a context that ends when the run does not matter any more.
func (r *runs) watch(ctx context.Context, project, repository string, number int) (context.Context, func()) {
	ctx, stop := context.WithCancel(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.line(project, repository)
	if l.over(number) {
		stop()
		return ctx, stop
	}
	l.stop[number] = stop
	return ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(l.stop, number)
		stop()
	}
}

// savedLine is a repository's runs as a snapshot has them.
type savedLine struct {
	Project    string `json:"project"`
	Repository string `json:"repository"`
	Last       int    `json:"last"`
	Alive      []int  `json:"alive"`
}

func (r *runs) save() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]savedLine, 0, len(r.lines))
	for at, l := range r.lines {
		s := savedLine{Project: at.project, Repository: at.repository, Last: l.last}
		for number := range l.alive {
			s.Alive = append(s.Alive, number)
		}
		all = append(all, s)
	}
	return json.Marshal(all)
}

func (r *runs) load(text []byte) error {
	var all []savedLine
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range all {
		l := r.line(s.Project, s.Repository)
		l.last = s.Last
		clear(l.alive)
		for _, number := range s.Alive {
			l.alive[number] = true
		}
	}
	return nil
}

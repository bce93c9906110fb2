package builder

import (
	"sync"

	"github.com/lemnis/lemnis/pkg/events"
)

// rounds is the read model of which rounds still matter, so that no work is done for a change
// that has left, and none is merged that was abandoned while its repository could not be reached.
// Correctness does not rest on it: the master copy moves only to what was tested.
type rounds struct {
	mu     sync.Mutex
	rounds map[place]round
}

type place struct{ project, change string }

type round struct {
	number int
	left   bool
}

func newRounds() *rounds { return &rounds{rounds: map[place]round{}} }

func (q *rounds) apply(e events.Event) {
	var m events.MergeDetail
	left := false
	switch c := e.Content.(type) {
	case events.QueueEntered:
		m = c.Merge
	case events.QueueEjected:
		m, left = c.Merge, true
	default:
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	at := place{e.Project, m.Change}
	if m.Round >= q.rounds[at].number {
		q.rounds[at] = round{number: m.Round, left: left}
	}
}

// over reports whether the round is not the change's current one any more.
func (q *rounds) over(project string, m events.MergeDetail) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.rounds[place{project, m.Change}]
	return m.Round < r.number || m.Round == r.number && r.left
}

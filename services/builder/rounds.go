package builder

import (
	"maps"
	"slices"
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
	at     uint64 // sequence of the fact
}

// keptRounds is how many changes that have left are remembered: far more than there is work in flight for.
const keptRounds = 4096

func newRounds() *rounds { return &rounds{rounds: map[place]round{}} }

func (q *rounds) apply(e events.Event) {
	var m events.MergeDetail
	left := false
	switch c := e.Content.(type) {
	case events.QueueEntered:
		m = c.Merge
	case events.QueueEjected:
		m, left = c.Merge, true
	case events.ChangeMerged:
		m, left = c.Lemnis, true
	default:
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	at := place{e.Project, m.Change}
	if m.Round >= q.rounds[at].number {
		q.rounds[at] = round{m.Round, left, e.Sequence}
	}
	q.forget()
}

// forget forgets those that left first, half of them at once.
func (q *rounds) forget() {
	if len(q.rounds) <= keptRounds {
		return
	}
	var all []uint64
	for _, r := range q.rounds {
		if r.left {
			all = append(all, r.at)
		}
	}
	if len(all) <= keptRounds {
		return
	}
	slices.Sort(all)
	before := all[len(all)-keptRounds/2]
	maps.DeleteFunc(q.rounds, func(_ place, r round) bool { return r.left && r.at < before })
}

// over reports whether the round is not the change's current one any more.
func (q *rounds) over(project string, m events.MergeDetail) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.rounds[place{project, m.Change}]
	return m.Round < r.number || m.Round == r.number && r.left
}

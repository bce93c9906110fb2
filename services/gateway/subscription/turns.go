package subscription

import (
	"sync"
	"time"
)

// turnsAtATime is how many workers have a turn at a time.
const turnsAtATime = 16

// feedBatch is how many facts a worker takes in one turn.
const feedBatch = 128

// turns are goroutines that all workers share: a worker that has something to do gets a turn, and one that waits has no goroutine. A
// goroutine of its own takes 8 KiB of stack also while it waits, and as much again until the collector runs.
type turns struct {
	mu      sync.Mutex
	more    *sync.Cond
	waiting []*worker // the first is next
	ended   bool
	all     sync.WaitGroup
}

// turn is where a worker stands; turns.mu guards it.
type turn struct {
	waits bool // among those that wait
	since time.Time
	has   bool // now, or it has not begun
	anew  bool // it asked for another one meanwhile
}

func newTurns() *turns {
	t := &turns{}
	t.more = sync.NewCond(&t.mu)
	for range turnsAtATime {
		t.all.Go(t.give)
	}
	return t
}

// begin gets a worker that has just been made its first turn.
func (t *turns) begin(w *worker) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w.turn.has = false
	t.queue(w, time.Now())
}

// ask gets a worker a turn. It waits for nothing.
func (t *turns) ask(w *worker) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked(w, time.Now())
}

// askAll gets each of many workers a turn.
func (t *turns) askAll(all map[*worker]struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for w := range all {
		t.asked(w, now)
	}
}

// asked gets a worker a turn now, or another one after the one that it has; mu is held.
func (t *turns) asked(w *worker, now time.Time) {
	if w.turn.has {
		w.turn.anew = true
		return
	}
	t.queue(w, now)
}

// queue has a worker wait for its turn; mu is held.
func (t *turns) queue(w *worker, now time.Time) {
	if w.turn.waits {
		return
	}
	w.turn.waits, w.turn.since = true, now
	t.waiting = append(t.waiting, w)
	t.more.Signal()
}

// give gives one turn after the other.
func (t *turns) give() {
	room := make([]*item, 0, feedBatch)
	t.mu.Lock() // not deferred: a turn that panics does not hold it
	for {
		for len(t.waiting) == 0 {
			if t.ended {
				t.mu.Unlock()
				return
			}
			t.more.Wait()
		}
		w := t.waiting[0]
		t.waiting[0] = nil
		t.waiting = t.waiting[1:]
		w.turn.waits, w.turn.has, w.turn.anew = false, true, false
		waited := time.Since(w.turn.since)
		t.mu.Unlock()
		anew := w.takeTurn(waited > beside, room)
		t.mu.Lock()
		w.turn.has = false
		if anew || w.turn.anew {
			t.queue(w, time.Now())
		}
	}
}

// end ends the goroutines when nobody waits any more.
func (t *turns) end() {
	t.mu.Lock()
	t.ended = true
	t.more.Broadcast()
	t.mu.Unlock()
	t.all.Wait()
}

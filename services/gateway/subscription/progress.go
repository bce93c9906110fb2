package subscription

import (
	"context"
	"slices"
	"time"
)

func (w *worker) status() state {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.snapshot()
}

// snapshot is the state now; mu is held.
func (w *worker) snapshot() state {
	s := w.s
	if w.open != nil {
		s.Open = make([]unsettled, 0, len(w.open))
		for sequence, a := range w.open {
			s.Open = append(s.Open, unsettled{Sequence: sequence, Tries: a.tries, Since: a.since})
		}
		slices.SortFunc(s.Open, func(a, b unsettled) int { return int(a.Sequence) - int(b.Sequence) })
	}
	settled := s.Read
	if len(s.Open) > 0 {
		settled = s.Open[0].Sequence - 1
	}
	s.Lag, s.Waiting = 0, len(s.Open)
	if _, fact := w.feed.ends(); fact > settled {
		s.Lag = fact - settled
	}
	s.At = time.Now().UTC()
	return s
}

// save keeps the state; one at a time does. It fails with [ErrConflict] when another has written it: this worker is not the latest.
func (w *worker) save(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	s := w.status()
	revision, err := w.store.put(ctx, statePrefix+w.record.Spec.ID, s, w.revision)
	if err != nil {
		return err
	}
	w.revision = revision
	return nil
}

// reopen has what was left open open again, with its tries, until it is read again.
func (w *worker) reopen() []unsettled {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := w.s.Open
	if w.s.Open = nil; len(left) > 0 {
		w.open = make(map[uint64]*attempt, len(left))
	}
	for _, u := range left {
		w.open[u.Sequence] = &attempt{tries: u.Tries, since: u.Since}
	}
	return left
}

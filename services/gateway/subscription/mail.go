package subscription

import "sync"

// mail is what others have for a worker, until its turn.
type mail struct {
	mu      sync.Mutex
	results []result
	saved   *saved
	came    chan struct{} // nil while it has turns
}

// saved is what became of writing the state.
type saved struct{ err error }

// post leaves something for the worker, and gets it a turn.
func (w *worker) post(put func(*mail)) {
	w.mail.mu.Lock()
	put(&w.mail)
	came := w.mail.came
	w.mail.mu.Unlock()
	if came == nil {
		w.turns.ask(w)
		return
	}
	select {
	case came <- struct{}{}:
	default:
	}
}

// opened takes all that is there.
func (w *worker) opened() (results []result, s *saved) {
	w.mail.mu.Lock()
	defer w.mail.mu.Unlock()
	results, s = w.mail.results, w.mail.saved
	w.mail.results, w.mail.saved = nil, nil
	return results, s
}

// putBack leaves results for who ends the worker.
func (w *worker) putBack(left []result) {
	w.mail.mu.Lock()
	defer w.mail.mu.Unlock()
	w.mail.results = append(left, w.mail.results...)
}

// noTurns has what comes from now on shown by a channel instead of by a turn.
func (w *worker) noTurns() <-chan struct{} {
	came := make(chan struct{}, 1)
	w.mail.mu.Lock()
	defer w.mail.mu.Unlock()
	w.mail.came = came
	return came
}

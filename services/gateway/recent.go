package gateway

import "sync"

// mostRecent bounds what the index may be behind before claims are refused: some 20 MiB of ids.
const mostRecent = 1 << 16

// recent remembers the claims that this gateway has published and the index has not met yet.
type recent struct {
	mu    sync.Mutex
	at    map[string]uint64 // sequence by message id
	order []string          // in that of sequences, nearly
}

// find is asked before the index is: what it has forgotten by then, the index has.
func (r *recent) find(id string) (uint64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.at[id]
	return at, ok
}

// add remembers a claim, and forgets those up to the sequence that the index stands at.
func (r *recent) add(id string, at, indexed uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(indexed)
	if r.at == nil {
		r.at = map[string]uint64{}
	}
	r.at[id] = at
	r.order = append(r.order, id)
}

func (r *recent) full(indexed uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.order) < mostRecent {
		return false
	}
	r.forget(indexed)
	return len(r.order) >= mostRecent
}

func (r *recent) forget(indexed uint64) {
	n := 0
	for n < len(r.order) && r.at[r.order[n]] <= indexed {
		delete(r.at, r.order[n])
		n++
	}
	r.order = r.order[n:]
}

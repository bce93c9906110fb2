package main

import (
	"math/rand/v2"
	"sync"
	"time"
)

// delays are how late things come: most hardly, some by seconds, a few by all that is allowed.
type delays struct {
	mu     sync.Mutex
	rng    *rand.Rand
	latest time.Duration
	left   int // of the longest, so that a run comes to its end
}

func newDelays(seed uint64, latest time.Duration) *delays {
	return &delays{rng: rand.New(rand.NewPCG(seed, 11)), latest: latest, left: 2} //nolint:gosec // repeatable chance, not secrets
}

func (d *delays) next() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch n := d.rng.IntN(1000); {
	case n < 600:
		return 0
	case n < 985:
		return time.Duration(d.rng.Int64N(int64(10 * time.Millisecond)))
	case n < 998:
		return time.Duration(d.rng.Int64N(int64(max(d.latest/100, time.Millisecond))))
	case d.left > 0:
		d.left--
		return d.latest
	}
	return time.Duration(d.rng.Int64N(int64(max(d.latest/10, time.Millisecond))))
}

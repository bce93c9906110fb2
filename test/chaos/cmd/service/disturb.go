//go:build chaos

package main

import (
	"context"

	"github.com/lemnis/lemnis/internal/service"
)

// remembered bounds how far back a message comes again from.
const remembered = 64

// disturbed has the owner meet every message twice, some of them a third time much later, and its workers wait.
func disturbed(ctx context.Context, h service.Host, d *delays) (service.Host, error) {
	var seen []service.Message
	return h.Disturbed(ctx, service.Disturbance{
		Delay: d.next,
		Again: func(m service.Message) []service.Message {
			if n := len(seen); n > 0 && m.Sequence <= seen[n-1].Sequence {
				seen = nil // a new term reads: what the one before was ahead with is not met yet
			}
			seen = append(seen, m)
			seen = seen[max(0, len(seen)-remembered):]
			again := []service.Message{m}
			if d.below(300) {
				again = append(again, seen[0])
			}
			return again
		},
	}), nil
}

// below is a chance: n of 1000.
func (d *delays) below(n int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(1000) < n
}

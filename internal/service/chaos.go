//go:build chaos

package service

import (
	"context"
	"time"
)

// Disturbance is what the proof does to the reading of one definition, in programs that are built with the tag chaos
// and in no others.
type Disturbance struct {
	// Again names the messages that the owner meets again behind m; nil: none. Called from one goroutine.
	Again func(m Message) []Message
	// Delay is how long a worker waits before it handles what it was given: so partitions overtake one another.
	Delay func() time.Duration
}

// Disturbed is the host with the disturbance, until ctx ends.
func (h Host) Disturbed(ctx context.Context, d Disturbance) Host {
	h.faults = &faults{again: d.Again, pause: func(s step) {
		if s == stepReceived && d.Delay != nil {
			wait(ctx, d.Delay())
		}
	}}
	return h
}

package service

import (
	"context"
	"fmt"

	"github.com/lemnis/lemnis/pkg/events"
)

// project feeds a projection from the beginning of the stream until ctx ends; ready is called
// when it has met what the stream held at the start.
func project(ctx context.Context, h Host, p Projection, ready func()) error {
	end, err := lastSequence(ctx, h.JS)
	if err != nil {
		return err
	}
	filters := make([]string, len(p.On))
	for i, t := range p.On {
		filters[i] = events.Filter(events.Stated, "", "", t)
	}
	caughtUp := false
	done := func() {
		if !caughtUp {
			caughtUp = true
			ready()
		}
	}
	pending, err := pendingFor(ctx, h, filters)
	if err != nil {
		return err
	}
	if pending == 0 {
		done()
	}
	return tail(ctx, h.JS, h.Log, filters, 1, func(m Message) error {
		e, err := m.Event()
		if err != nil {
			h.Log.Error(fmt.Sprintf("projection %s passes over fact %d: %v", p.Name, m.Sequence, err))
		} else {
			p.Apply(e)
		}
		if m.Pending == 0 || m.Sequence >= end {
			done()
		}
		return nil
	})
}

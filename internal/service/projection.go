package service

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/pkg/events"
)

// project feeds a projection from the beginning of the stream until ctx ends; ready is called
// when it has met what the stream held at the start.
func project(ctx context.Context, h Host, p Projection, ready func()) error {
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
	end, pending := uint64(0), uint64(0)
	for {
		var err error
		if end, err = lastSequence(ctx, h.JS); err == nil {
			pending, err = pendingFor(ctx, h.JS, filters, 1)
		}
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		h.Log.Warn("a projection can not begin; trying again", zap.String("projection", p.Name), zap.Error(err))
		wait(ctx, 200*time.Millisecond)
	}
	if pending == 0 {
		done()
	}
	return tail(ctx, h.JS, h.Log, filters, 1, func(m Message) error {
		e, err := m.Event()
		if err == nil {
			err = protect(func() error { p.Apply(e); return nil })
		}
		if err != nil {
			h.Log.Error(fmt.Sprintf("projection %s passes over fact %d: %v", p.Name, m.Sequence, err))
		}
		if m.Pending == 0 || m.Sequence >= end {
			done()
		}
		return nil
	})
}

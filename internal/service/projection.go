package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// project feeds a projection from the beginning of the stream until ctx ends; ready is called
// when it has met what the stream held at the start.
func project(ctx context.Context, h Host, phase events.Phase, p *projector, ready func()) error {
	ready = sync.OnceFunc(ready)
	for {
		err := projectOnce(ctx, h, phase, p, ready)
		if !errors.Is(err, errGone) {
			return err
		}
		h.Log.Warn("a projection begins again", zap.String("projection", p.Name), zap.Error(err))
	}
}

func projectOnce(ctx context.Context, h Host, phase events.Phase, p *projector, ready func()) error {
	var goal, from, first uint64
	for {
		var err error
		if from, first, err = p.begin(ctx, h, phase); err == nil {
			goal, err = LastOf(ctx, h, natsd.Lifecycle, p.filters...)
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
	caughtUp := false
	done := func() error {
		if caughtUp {
			return nil
		}
		for {
			err := nothingGone(ctx, h.JS, first)
			if err == nil {
				break
			}
			if errors.Is(err, errGone) || ctx.Err() != nil { // it may be what was not read yet
				return err
			}
			wait(ctx, 200*time.Millisecond)
		}
		caughtUp = true
		ready()
		return nil
	}
	if goal < from {
		if err := done(); err != nil {
			return err
		}
	}
	return tail(ctx, h.JS, h.Log, p.filters, from, func(m Message) error {
		if err := p.apply(m); err != nil {
			h.Log.Error(fmt.Sprintf("projection %s passes over fact %d: %v", p.Name, m.Sequence, err))
		}
		if m.Sequence >= goal {
			return done()
		}
		return nil
	})
}

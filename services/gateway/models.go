package gateway

import (
	"context"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// runModels keeps the overview and the index behind the stream until ctx ends. One reader feeds both, from where the one
// that is further back stands: to read an event costs more than to take it in. At the end of the stream it also serves
// those who follow that (tails). The overview needs no store, so an index
// that is in trouble leaves the reader, and goes on with one of its own.
func (g *Gateway) runModels(ctx context.Context) error {
	o, x := g.overview, g.index
	saved := o.load(ctx, g.host)
	shared := newIntake()
	indexed, err := x.begin(ctx)
	if err != nil {
		g.log.Warn("where the index stands can not be read; it goes on by itself", zap.Error(err))
		shared.leave()
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return x.run(ctx, shared) })
	group.Go(func() error { return x.watchLag(ctx) })
	group.Go(func() error { return o.keepSaved(ctx, g.host, saved) })
	group.Go(func() error {
		together := err == nil
		from := saved
		if together {
			from = min(from, indexed)
		}
		waits := true // for the index, as long as nobody else waits for the reader
		give := func(s step) {
			switch {
			case together && waits:
				together = shared.give(ctx, s)
			case together:
				together = shared.offer(s)
			}
		}
		return follow(ctx, g.host, from, func(m service.Message) error {
			if m.Kind != events.Result {
				if m.Sequence > indexed {
					give(step{message: m})
				}
				if m.Sequence > saved {
					o.meet(m)
				}
			}
			if together {
				x.lag.handed(m.Sequence, m.Kind != events.Result)
			}
			if !waits {
				g.tails.meet(m)
			}
			return nil
		}, func(at uint64) {
			close(o.ready)
			give(step{caughtUp: true})
			waits = false
			g.tails.begin(at)
		})
	})
	return group.Wait()
}

// stands is where a read model stands. One that stands behind the end of the stream is emptied: when the power failed,
// the stream may have lost more than the store.
func stands(ctx context.Context, h service.Host, name string, keys ...string) (uint64, error) {
	at, err := h.Folds.Position(ctx, name)
	if err != nil || at == 0 {
		return 0, err
	}
	end, err := service.LastSequence(ctx, h)
	if err != nil || at <= end {
		return at, err
	}
	h.Log.Warn("the stream has lost events that a read model knows; building it anew", zap.String("model", name), zap.Uint64("stood", at), zap.Uint64("end", end))
	return 0, h.Folds.Advance(ctx, name, at, 0, func(p redis.Pipeliner) error {
		p.Del(ctx, keys...)
		return nil
	})
}

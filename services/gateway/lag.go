package gateway

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
)

// indexBound is how far the index may be behind in time before claims are refused. A claim that another gateway put on the
// stream is known to the stream for [natsd.DuplicateWindow], and to the index from then on: half of the window is left for a
// claim that was looked for and is on its way.
const indexBound = natsd.DuplicateWindow / 2

const (
	lookAtEnd  = time.Second           // between two looks at where the stream ends
	comesThere = 10 * time.Millisecond // and at whether the index has come there
)

// lag knows up to which moment the index has all that was on the stream, by this process's own clock: those of servers need
// not agree.
type lag struct {
	began   time.Time     // moments are counted from here
	covered atomic.Int64  // the latest of them; nanoseconds
	bound   atomic.Int64  // nanoseconds
	given   atomic.Uint64 // the last sequence that the index was given
	passed  atomic.Uint64 // the last one that was looked at, also of a result, which is not given
}

func (l *lag) init() {
	l.began = time.Now() // all before is read before the index says that it is whole
	l.bound.Store(int64(indexBound))
}

// handed notes what the reader that feeds the index has met.
func (l *lag) handed(sequence uint64, given bool) {
	if given {
		l.given.Store(sequence)
	}
	l.passed.Store(sequence)
}

// tooFar reports whether a claim may be older than the stream's memory and younger than the index's.
func (l *lag) tooFar() bool {
	return time.Since(l.began)-time.Duration(l.covered.Load()) > time.Duration(l.bound.Load())
}

// watchLag looks where the stream ends, and notes the moment once the index has come there, until ctx ends.
func (x *index) watchLag(ctx context.Context) error {
	for ctx.Err() == nil {
		asked := time.Since(x.lag.began)
		ask, cancel := context.WithTimeout(ctx, publishTimeout)
		end, err := service.LastSequence(ask, x.host)
		cancel()
		for err == nil && ctx.Err() == nil {
			var there bool
			if there, err = x.has(ctx, end); there {
				x.lag.covered.Store(int64(asked))
				break
			}
			pause(ctx, comesThere)
		}
		if err != nil && ctx.Err() == nil {
			x.log.Debug("how far the index is behind is not known", zap.Error(err))
		}
		pause(ctx, lookAtEnd)
	}
	return ctx.Err()
}

// catchUp waits for the index to have all that stands on the stream now, for as long as an index that follows may take; false where it
// does not come there.
func (x *index) catchUp(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, followsWithin)
	defer cancel()
	end, err := service.LastSequence(ctx, x.host)
	for err == nil {
		var there bool
		if there, err = x.has(ctx, end); there {
			return true
		}
		pause(ctx, comesThere)
		err = errors.Join(err, ctx.Err())
	}
	return false
}

// followsWithin is how far an index that follows the stream may be behind.
const followsWithin = time.Second

// has reports whether the index has all up to a sequence of the stream. Another gateway may have moved it.
func (x *index) has(ctx context.Context, sequence uint64) (bool, error) {
	passed := x.lag.passed.Load()
	given := x.lag.given.Load() // after passed: all that was given up to there
	stands, err := x.host.Folds.Position(ctx, x.name)
	return err == nil && (stands >= sequence || passed >= sequence && stands >= given), err
}

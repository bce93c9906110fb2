package service

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
)

// aheadOf is the highest sequence at or behind the barrier that a floor or saved folds claim to have met, 0 when there is
// none. The barrier is the last message of the stream when it is raised: one who has met more met it on an end of the
// stream that is lost, as by a power failure before the stream was synced but after the store was.
func aheadOf(barrier, floor, complete uint64, saved map[fold.PartitionID]*partition) uint64 {
	furthest := max(floor, complete)
	for _, p := range saved {
		furthest = max(furthest, p.last)
	}
	if furthest < barrier {
		return 0
	}
	return furthest
}

// beginAnew forgets the floor and the saved folds, so that the term folds and meets the stream from its beginning: every
// cause that has its fact is known by it. The lease is renewed with the floor 0.
func (t *term) beginAnew(ctx context.Context, barrier, ahead uint64) error {
	t.log.Error("the folds or the floor are ahead of the stream, whose end is lost: forgetting them and reading the stream from the beginning",
		zap.Uint64("stream", barrier), zap.Uint64("ahead", ahead))
	if err := t.host.Folds.Forget(ctx, t.completeName(), t.scope()); err != nil {
		return fmt.Errorf("folds that are ahead of the stream can not be forgotten: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.floor = 0
	t.read.Store(0)
	return nil
}

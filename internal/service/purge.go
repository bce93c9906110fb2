package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/snapshot"
)

// Purge is what may go of the stream, and what holds back more.
type Purge struct {
	First  uint64 // that the stream has now
	UpTo   uint64 // everything at or below it may go; below First when there is nothing
	HeldBy string
}

// PlanPurge says which events may go: those that are older than keep, that the last but one snapshot of every name holds (of
// two, so that a backup under way finds one that fits; what a phase has kept, it has handled), and that no effect still has
// to do.
func PlanPurge(ctx context.Context, h Host, keep time.Duration, names []string) (Purge, error) {
	stream, err := h.JS.Stream(ctx, natsd.Lifecycle)
	if err != nil {
		return Purge{}, fmt.Errorf("look at the stream: %w", err)
	}
	state := stream.CachedInfo().State
	p := Purge{First: state.FirstSeq, UpTo: state.LastSeq, HeldBy: "nothing: all events are older"}
	hold := func(upTo uint64, format string, args ...any) {
		if upTo < p.UpTo {
			p.UpTo, p.HeldBy = upTo, fmt.Sprintf(format, args...)
		}
	}
	young, err := firstAfter(ctx, h.JS, time.Now().Add(-keep))
	if err != nil {
		return p, err
	}
	if young > 0 {
		hold(young-1, "events behind %d are younger than %s", young-1, keep)
	}
	for _, name := range names {
		kept, err := snapshot.Read(ctx, h.JS, name)
		if err != nil {
			return p, err
		}
		if len(kept) < 2 {
			hold(0, "%s has not kept two snapshots yet", name)
			continue
		}
		// A head alone proves nothing. The older one may be about to be written over; then the later one is the older.
		if _, err := kept[0].Content(ctx, h.JS); err != nil {
			return p, err
		}
		hold(kept[1].Sequence, "the last but one snapshot of %s stands at %d, of %s", name, kept[1].Sequence, kept[1].Taken.Format(time.RFC3339))
	}
	consumers := stream.ListConsumers(ctx)
	for c := range consumers.Info() {
		if strings.HasPrefix(c.Name, effectPrefix) && (c.NumPending > 0 || c.NumAckPending > 0) {
			hold(c.AckFloor.Stream, "%s is at work on what is behind %d", c.Name, c.AckFloor.Stream)
		}
	}
	return p, consumers.Err()
}

// firstAfter is the sequence of the first event that was stored at a time or later; 0 when there is none.
func firstAfter(ctx context.Context, js jetstream.JetStream, t time.Time) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	batch, err := jetstreamext.GetBatch(ctx, js, natsd.Lifecycle, 1, jetstreamext.GetBatchStartTime(t))
	if err != nil {
		return 0, fmt.Errorf("look for what is younger: %w", err)
	}
	for m, err := range batch {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("look for what is younger: %w", err)
		}
		return m.Sequence, nil
	}
	return 0, nil
}

// Do purges what may go. It needs the installation's own key.
func (p Purge) Do(ctx context.Context, h Host) error {
	if p.UpTo < p.First {
		return nil
	}
	stream, err := h.JS.Stream(ctx, natsd.Lifecycle)
	if err != nil {
		return err
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(p.UpTo+1)); err != nil {
		return fmt.Errorf("purge %s up to %d: %w", natsd.Lifecycle, p.UpTo, err)
	}
	return nil
}

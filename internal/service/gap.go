package service

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// conflict tells that something else than was expected is the last of a partition.
func conflict(err error) bool {
	var apiErr *jetstream.APIError
	return errors.As(err, &apiErr) && apiErr.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

// lookForPurge finds out whether the last fact of a partition, with all before it, was purged.
func (t *term) lookForPurge(ctx context.Context, p *partition) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if last, err := LastOf(ctx, t.host, natsd.Lifecycle, p.fence); err == nil && last == 0 {
		p.purged = p.last
	}
}

// transient tells a conflict with another write under way from a refusal.
func transient(err *jetstream.APIError) bool {
	const (
		wrongLastSequenceConstant = 10164 // a write under the same fence is in flight
		notLeader                 = 10009
	)
	return err.ErrorCode == wrongLastSequenceConstant || err.ErrorCode == notLeader || err.Code == 503
}

// tooLarge tells what the stream, or already the server, takes from nobody.
func tooLarge(err error) bool {
	const messageExceedsMaximum = 10054
	var apiErr *jetstream.APIError
	return errors.Is(err, nats.ErrMaxPayload) || errors.As(err, &apiErr) && apiErr.ErrorCode == messageExceedsMaximum
}

// catchUp folds the facts of a partition that stand behind the last one folded.
func (t *term) catchUp(ctx context.Context, p *partition) error {
	for {
		n, err := t.readGap(ctx, p)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			t.log.Warn("reading what stands in the gap failed; trying again", zap.String("fence", p.fence), zap.Error(err))
			wait(ctx, 100*time.Millisecond)
		case n == 0: // a short batch may have been cut by its size
			return nil
		}
	}
}

// readGap folds one batch of the gap and returns its size.
func (t *term) readGap(ctx context.Context, p *partition) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	msgs, err := jetstreamext.GetBatch(ctx, t.host.JS, natsd.Lifecycle, gapBatch,
		jetstreamext.GetBatchSubject(p.fence), jetstreamext.GetBatchSeq(p.last+1))
	if err != nil {
		return 0, err
	}
	n := 0
	for m, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		e, err := decodeStored(m.Header, m.Data, events.Stated, m.Sequence, m.Time)
		if err != nil {
			t.stopPartition(p, m.Sequence, err)
		} else {
			t.foldInto(p, e)
		}
		n++
	}
	return n, nil
}

// decodeStored decodes a message of the stream and puts its place on it.
func decodeStored(h nats.Header, data []byte, kind events.Kind, sequence uint64, stored time.Time) (events.Event, error) {
	e, err := events.Decode(h, data)
	if err != nil {
		return events.Event{}, err
	}
	e.Kind, e.Sequence, e.Stored = kind, sequence, stored
	return e, nil
}

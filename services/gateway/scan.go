package gateway

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// scanTries is how often a reader that reads nothing is made anew: a cluster may place the next one on a server that lives.
const scanTries = 3

// scan reads a stream in order, behind a sequence, to the end that it has when the reader arrives there, or until each
// returns false. ended says that the end was reached: where the stream has copies, the leader says so.
func scan(ctx context.Context, h service.Host, stream string, filters []string, after uint64, each func(service.Message) bool) (ended bool, err error) {
	pass := func() (uint64, bool, error) {
		for try := 1; ; try++ {
			before := after
			if ended, err = scanOnce(ctx, h.JS, stream, filters, &after, each); after > before {
				try = 0
			}
			if err == nil || ctx.Err() != nil || try == scanTries {
				return after, ended, err
			}
			pause(ctx, 50*time.Millisecond)
		}
	}
	if h.Replicas < 2 {
		_, _, err = pass()
		return ended, err
	}
	err = service.ReadToEnd(ctx, pass, func(ctx context.Context) (uint64, error) { return service.LastOf(ctx, h, stream, filters...) })
	return ended && err == nil, err
}

// scanOnce reads to where the copy ends that it is placed at, and keeps the last sequence that it met in after.
func scanOnce(ctx context.Context, js jetstream.JetStream, stream string, filters []string, after *uint64, each func(service.Message) bool) (ended bool, err error) {
	reader, err := natsd.NewReader(ctx, js, stream, filters, *after+1)
	if err != nil {
		return false, err
	}
	defer reader.Close(ctx)
	if reader.Pending() == 0 {
		return true, nil
	}
	for {
		m, at, err := reader.Next()
		if err != nil {
			return false, err
		}
		kind, _, _ := strings.Cut(m.Subject(), ".")
		s := service.Message{Msg: m, Kind: events.Kind(kind), Sequence: at.Sequence.Stream, Stored: at.Timestamp.UTC(), Pending: at.NumPending}
		*after = s.Sequence
		if !each(s) {
			return false, nil
		}
		if s.Pending == 0 {
			return true, nil
		}
	}
}

// follow reads in order, behind a sequence, until ctx ends. It has no filters: a reader without costs the server much
// less. caughtUp is called once, with the last sequence that was read, when the end that the stream had at the start was
// met.
//
// Events that are purged before they were read end it with an error: whoever follows has to begin again.
func follow(ctx context.Context, h service.Host, after uint64, take func(service.Message) error, caughtUp func(at uint64)) error {
	each := func(m service.Message) error {
		if m.Sequence > after+1 {
			if err := purged(ctx, h, after+1); err != nil {
				return err
			}
		}
		after = m.Sequence
		return take(m)
	}
	for {
		var failed error
		_, err := scan(ctx, h, lifecycle, nil, after, func(m service.Message) bool {
			if failed = each(m); failed != nil {
				return false
			}
			return true
		})
		switch {
		case failed != nil:
			return failed
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			caughtUp(after)
			return service.Tail(ctx, h, nil, after+1, each)
		}
		pause(ctx, 200*time.Millisecond)
	}
}

// purged is errPurged when the stream begins behind a sequence. While the bus is away it waits.
func purged(ctx context.Context, h service.Host, from uint64) error {
	for {
		first, err := service.FirstSequence(ctx, h)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && first > from:
			return errPurged
		case err == nil:
			return nil
		}
		pause(ctx, 200*time.Millisecond)
	}
}

var errPurged = errors.New("events were purged that were still to be read")

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

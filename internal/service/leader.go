package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
)

// Any server of a cluster hands out messages of its own copy of a stream, and says by that copy that there are no more. One
// may be behind: that something is not there, and that a stream has ended, only the stream's leader may say.

// LastOf asks the leader of a stream for the last sequence that one of the filters lets through (none: all), 0 when there is
// none.
func LastOf(ctx context.Context, h Host, stream string, filters ...string) (uint64, error) {
	if len(filters) == 0 {
		filters = []string{">"}
	}
	var last uint64
	for _, filter := range filters {
		at, err := lastOf(ctx, h, stream, filter)
		if err != nil {
			return 0, fmt.Errorf("the last of %s in %s: %w", filter, stream, err)
		}
		last = max(last, at)
	}
	return last, nil
}

func lastOf(ctx context.Context, h Host, stream, filter string) (uint64, error) {
	m, err := natsd.AskLeader(ctx, h.Conn, stream, map[string]any{"last_by_subj": filter})
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return 0, nil
	case err != nil:
		return 0, err
	}
	return m.Sequence, nil
}

// MessageAt reads one message of a stream. The error is [jetstream.ErrMsgNotFound] when it is no longer there, or has never
// been: where the stream has copies, the leader says so.
func MessageAt(ctx context.Context, h Host, stream jetstream.Stream, sequence uint64) (*jetstream.RawStreamMsg, error) {
	m, err := stream.GetMsg(ctx, sequence)
	if h.Replicas > 1 && errors.Is(err, jetstream.ErrMsgNotFound) {
		return natsd.AskLeader(ctx, h.Conn, stream.CachedInfo().Config.Name, map[string]any{"seq": sequence})
	}
	return m, err
}

// errLagging says that the leader of a stream has what no server that was asked gives out.
var errLagging = errors.New("the servers do not give what the stream has")

const (
	lagTimeout = 10 * time.Second      // for a copy to have what the leader has, while nothing comes
	lagPause   = 20 * time.Millisecond // before it is asked again
)

// ReadToEnd repeats read, which reads on behind what it has read to where some copy of the stream ends, and returns the last
// sequence that it has met, until that is at the end which the leader names when read ends for the first time. A read that
// does not go on ends it, too.
func ReadToEnd(ctx context.Context, read func() (at uint64, on bool, err error), end func(context.Context) (uint64, error)) error {
	var met, goal uint64
	quiet := time.Now()
	for first := true; ; first = false {
		at, on, err := read()
		if err != nil || !on {
			return err
		}
		stood := at == met
		if met = at; !stood {
			quiet = time.Now()
		}
		if first || stood { // the end may have gone, too
			if goal, err = end(ctx); err != nil {
				return err
			}
		}
		switch {
		case met >= goal:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Since(quiet) > lagTimeout:
			return errLagging
		case stood:
			wait(ctx, lagPause)
		}
	}
}

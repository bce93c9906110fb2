package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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
	m, err := askLeader(ctx, h, stream, map[string]any{"last_by_subj": filter})
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
		return askLeader(ctx, h, stream.CachedInfo().Config.Name, map[string]any{"seq": sequence})
	}
	return m, err
}

// askLeader asks the leader of a stream for a message; [jetstream.ErrMsgNotFound] when there is none.
func askLeader(ctx context.Context, h Host, stream string, which map[string]any) (*jetstream.RawStreamMsg, error) {
	ask, err := json.Marshal(which)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	reply, err := h.Conn.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, ask)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	switch err := json.Unmarshal(reply.Data, &answer); {
	case err != nil:
		return nil, err
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, jetstream.ErrMsgNotFound
	case answer.Error != nil:
		return nil, answer.Error
	}
	m := answer.Message
	raw := &jetstream.RawStreamMsg{Subject: m.Subject, Sequence: m.Sequence, Data: m.Data, Time: m.Time}
	if len(m.Header) > 0 {
		if raw.Header, err = nats.DecodeHeadersMsg(m.Header); err != nil {
			return nil, err
		}
	}
	return raw, nil
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

package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Replay reads the selected facts from a sequence on (1 is the first there is) to the end that
// the stream has when the loop begins:
//
//	for e, err := range client.Replay(ctx, events.Selector{Project: "shop"}, 1) {
//		if err != nil {
//			return err
//		}
//		…
//	}
//
// An error that wraps [ErrNoCloudEvent], [ErrNotCDEvent] or [ErrUnknownType] is about one message, of
// which the event has only kind, sequence and time; the loop may go on. After any other error it ends.
func (c *Client) Replay(ctx context.Context, sel Selector, from uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := c.replay(ctx, sel, max(from, 1), yield); err != nil {
			yield(Event{}, fmt.Errorf("replay: %w", asClientError(err)))
		}
	}
}

func (c *Client) replay(ctx context.Context, sel Selector, from uint64, yield func(Event, error) bool) error {
	if err := sel.check(); err != nil {
		return err
	}
	if c.isClosed() {
		return ErrClosed
	}
	end, copies, err := c.end(ctx)
	if err != nil {
		return err
	}
	quiet := time.Now()
	for next := from; next <= end; {
		before := next
		done, err := c.replayOnce(ctx, sel, &next, end, yield)
		if err != nil || done || copies < 2 {
			return err
		}
		// A reader hands out what one server of a cluster has: while that is behind the stream's leader, its end is none.
		last, err := c.lastOf(ctx, sel.subject())
		switch {
		case err != nil || next > last:
			return err
		case next > before:
			quiet = time.Now()
		case time.Since(quiet) > lagTimeout:
			return errors.New("the servers do not give what the stream has")
		default:
			wait(ctx, lagPause)
		}
	}
	return nil
}

const (
	answerTimeout = 5 * time.Second // for an answer, which a cluster loses with the server that had the question

	lagTimeout = 10 * time.Second      // for a server of a cluster to have what the stream's leader has
	lagPause   = 20 * time.Millisecond // before another reader is made, which may be placed elsewhere
)

// replayOnce reads from next on to where a copy of the stream ends, and moves next; true when nothing is to be read any more.
func (c *Client) replayOnce(ctx context.Context, sel Selector, next *uint64, end uint64, yield func(Event, error) bool) (done bool, err error) {
	consumer, cleanup, err := c.orderedConsumer(ctx, sel, *next)
	if err != nil {
		return false, err
	}
	defer cleanup()
	if consumer.CachedInfo().NumPending == 0 {
		return false, nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return false, err
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return false, err
		}
		meta, err := m.Metadata()
		if err != nil {
			return false, err
		}
		if meta.Sequence.Stream > end {
			return true, nil
		}
		e, err := fromStream(m)
		if (err != nil || sel.wants(&e)) && !yield(e, err) {
			return true, nil
		}
		*next = meta.Sequence.Stream + 1
		if meta.NumPending == 0 || *next > end {
			return *next > end, nil
		}
	}
}

// lastOf asks the stream's leader for the last sequence that a filter lets through, 0 when there is none.
func (c *Client) lastOf(ctx context.Context, filter string) (uint64, error) {
	ask, err := json.Marshal(map[string]string{"last_by_subj": filter})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	reply, err := c.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+streamName, ask)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Sequence uint64 `json:"seq"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return 0, err
	}
	if answer.Error != nil && answer.Error.ErrorCode != jetstream.JSErrCodeMessageNotFound {
		return 0, answer.Error
	}
	return answer.Message.Sequence, nil
}

// end asks the stream's leader where the stream ends, and how many copies there are of it.
func (c *Client) end(ctx context.Context) (sequence uint64, copies int, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	stream, err := c.js.Stream(ctx, streamName)
	if err != nil {
		return 0, 0, err
	}
	info := stream.CachedInfo()
	return info.State.LastSeq, info.Config.Replicas, nil
}

// ordered opens an ordered consumer; cleanup removes it from the server.
func (c *Client) ordered(ctx context.Context, sel Selector, from uint64) (jetstream.MessagesContext, func(), error) {
	consumer, cleanup, err := c.orderedConsumer(ctx, sel, from)
	if err != nil {
		return nil, nil, err
	}
	messages, err := consumer.Messages()
	if err != nil {
		cleanup()
		return nil, nil, err
	}
	return messages, cleanup, nil
}

func (c *Client) orderedConsumer(ctx context.Context, sel Selector, from uint64) (jetstream.Consumer, func(), error) {
	consumer, err := c.js.OrderedConsumer(ctx, streamName, jetstream.OrderedConsumerConfig{
		// One filter, so that it is part of the request's subject, by which the server judges whether it is allowed.
		FilterSubjects: []string{sel.subject()}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
		InactiveThreshold: forgetOrdered,
	})
	if err != nil {
		return nil, nil, err
	}
	return consumer, func() {
		// The server would forget it by itself, but an outsider may have only so many.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = c.js.DeleteConsumer(ctx, streamName, consumer.CachedInfo().Name)
	}, nil
}

// asClientError gives the server's answers the names of this package.
func asClientError(err error) error {
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return fmt.Errorf("%w (%w)", ErrNoLemnis, err)
	case errors.Is(err, nats.ErrConnectionClosed):
		return ErrClosed
	}
	return err
}

// firstLine is an error for where only one line fits.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line[:min(len(line), 200)]
}

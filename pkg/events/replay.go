package events

import (
	"context"
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
	end, err := c.lastSequence(ctx)
	if err != nil || end < from {
		return err
	}
	consumer, cleanup, err := c.orderedConsumer(ctx, sel, from)
	if err != nil {
		return err
	}
	defer cleanup()
	if consumer.CachedInfo().NumPending == 0 {
		return nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Stream > end {
			return nil
		}
		e, err := fromStream(m)
		if (err != nil || sel.wants(&e)) && !yield(e, err) {
			return nil
		}
		if meta.NumPending == 0 || meta.Sequence.Stream == end {
			return nil
		}
	}
}

func (c *Client) lastSequence(ctx context.Context) (uint64, error) {
	stream, err := c.js.Stream(ctx, streamName)
	if err != nil {
		return 0, err
	}
	return stream.CachedInfo().State.LastSeq, nil
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

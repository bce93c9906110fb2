package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// inactive is how long the server keeps an ordered consumer that nobody reads.
const inactive = 10 * time.Second

// stored is a message of the stream before it is decoded.
type stored struct {
	jetstream.Msg
	kind     events.Kind
	sequence uint64
	at       time.Time
	pending  uint64 // messages behind it that the filter lets through
}

func (s stored) event() (events.Event, error) {
	return decodeStored(s.Headers(), s.Data(), s.kind, s.sequence, s.at)
}

// errStop ends a tail without an error.
var errStop = errors.New("stop")

// tail reads the stream in order from a sequence on, without acknowledgements, and goes on
// reading until each returns an error ([errStop] for a good end) or ctx ends. A lost consumer or
// connection is taken up again behind the last message that each has seen.
func tail(ctx context.Context, js jetstream.JetStream, log *zap.Logger, filters []string, from uint64, each func(stored) error) error {
	for backoff := 50 * time.Millisecond; ; backoff = min(2*backoff, 2*time.Second) {
		err := tailOnce(ctx, js, filters, &from, each)
		var given *givenError
		switch {
		case errors.As(err, &given):
			if errors.Is(given.err, errStop) {
				return nil
			}
			return given.err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		log.Warn("reading the stream was interrupted; going on", zap.Uint64("from", from), zap.Error(err))
		wait(ctx, backoff)
	}
}

// givenError is an error of the callback, told apart from the bus's.
type givenError struct{ err error }

func (e *givenError) Error() string { return e.err.Error() }

func tailOnce(ctx context.Context, js jetstream.JetStream, filters []string, from *uint64, each func(stored) error) error {
	c, err := js.OrderedConsumer(ctx, natsd.Lifecycle, jetstream.OrderedConsumerConfig{
		FilterSubjects: filters, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(*from, 1),
		InactiveThreshold: inactive,
	})
	if err != nil {
		return fmt.Errorf("create reader: %w", err)
	}
	msgs, err := c.Messages()
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	defer msgs.Stop()
	for {
		m, err := msgs.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		kind, _, _ := strings.Cut(m.Subject(), ".")
		s := stored{Msg: m, kind: events.Kind(kind), sequence: meta.Sequence.Stream, at: meta.Timestamp, pending: meta.NumPending}
		if err := each(s); err != nil {
			return &givenError{err}
		}
		*from = s.sequence + 1
	}
}

// lastSequence asks the stream's leader where the stream ends.
func lastSequence(ctx context.Context, js jetstream.JetStream) (uint64, error) {
	s, err := js.Stream(ctx, natsd.Lifecycle)
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", natsd.Lifecycle, err)
	}
	info, err := s.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", natsd.Lifecycle, err)
	}
	return info.State.LastSeq, nil
}

// pendingFor counts the messages that the filters let through.
func pendingFor(ctx context.Context, h Host, filters []string) (uint64, error) {
	c, err := h.JS.CreateConsumer(ctx, natsd.Lifecycle, jetstream.ConsumerConfig{
		FilterSubjects: filters, AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: inactive, MemoryStorage: true, Replicas: 1,
	})
	if err != nil {
		return 0, fmt.Errorf("count what is pending: %w", err)
	}
	return c.CachedInfo().NumPending, nil
}

// token is the n-th token of a subject, from 0; empty when it has fewer.
func token(subject string, n int) string {
	tokens := strings.Split(subject, ".")
	if n >= len(tokens) {
		return ""
	}
	return tokens[n]
}

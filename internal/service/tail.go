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

// createTimeout is how long making a reader may take before another one is tried.
const createTimeout = 3 * time.Second

// Message is a message of the stream before it is decoded.
type Message struct {
	jetstream.Msg
	Kind     events.Kind
	Sequence uint64
	Stored   time.Time // when the stream stored it
	Pending  uint64    // messages behind it that the filter lets through
}

// Event decodes the message and puts its place on the event.
func (m Message) Event() (events.Event, error) {
	return decodeStored(m.Headers(), m.Data(), m.Kind, m.Sequence, m.Stored)
}

// ErrStop ends a [Tail] without an error when its callback returns it.
var ErrStop = errStop

// Tail reads the stream in order from a sequence on (1 is the beginning), without
// acknowledgements, until each returns an error or ctx ends. It survives a lost consumer or
// connection: what each has seen does not come again.
func Tail(ctx context.Context, h Host, filters []string, from uint64, each func(Message) error) error {
	return tail(ctx, h.JS, h.Log, filters, from, each)
}

// LastSequence is the sequence at which the stream ends now, as its leader says.
func LastSequence(ctx context.Context, h Host) (uint64, error) { return lastSequence(ctx, h.JS) }

// errStop ends a tail without an error.
var errStop = errors.New("stop")

// tail reads the stream in order from a sequence on, without acknowledgements, and goes on
// reading until each returns an error ([errStop] for a good end) or ctx ends. A lost consumer or
// connection is taken up again behind the last message that each has seen.
func tail(ctx context.Context, js jetstream.JetStream, log *zap.Logger, filters []string, from uint64, each func(Message) error) error {
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

func tailOnce(ctx context.Context, js jetstream.JetStream, filters []string, from *uint64, each func(Message) error) error {
	creating, created := context.WithTimeout(ctx, createTimeout)
	c, err := js.OrderedConsumer(creating, natsd.Lifecycle, jetstream.OrderedConsumerConfig{
		FilterSubjects: filters, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(*from, 1),
		// A cluster places a reader on one of its servers, for half a minute also on one that has just died. The client would
		// then try for ever to make it there, under the same name; another reader has another name and another place.
		MaxResetAttempts: 1, InactiveThreshold: inactive,
	})
	created()
	if err != nil {
		return fmt.Errorf("create reader: %w", err)
	}
	msgs, err := c.Messages()
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	defer func() {
		msgs.Stop()
		dropConsumer(ctx, js, c)
	}()
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
		s := Message{Msg: m, Kind: events.Kind(kind), Sequence: meta.Sequence.Stream, Stored: meta.Timestamp, Pending: meta.NumPending}
		if err := each(s); err != nil {
			return &givenError{err}
		}
		*from = s.Sequence + 1
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

// pendingFor counts the messages from a sequence on that the filters let through.
func pendingFor(ctx context.Context, h Host, filters []string, from uint64) (uint64, error) {
	c, err := h.JS.CreateConsumer(ctx, natsd.Lifecycle, jetstream.ConsumerConfig{
		FilterSubjects: filters, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(from, 1),
		AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: inactive, MemoryStorage: true, Replicas: 1,
	})
	if err != nil {
		return 0, fmt.Errorf("count what is pending: %w", err)
	}
	defer dropConsumer(ctx, h.JS, c)
	return c.CachedInfo().NumPending, nil
}

// dropConsumer spares the server a consumer that nobody reads any more; what it does not reach
// goes by itself.
func dropConsumer(ctx context.Context, js jetstream.JetStream, c jetstream.Consumer) {
	info := c.CachedInfo()
	if info == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = js.DeleteConsumer(ctx, natsd.Lifecycle, info.Name)
}

// token is the n-th token of a subject, from 0; empty when it has fewer.
func token(subject string, n int) string {
	tokens := strings.Split(subject, ".")
	if n >= len(tokens) {
		return ""
	}
	return tokens[n]
}

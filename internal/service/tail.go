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

// inactive is how long the server keeps a consumer that nobody reads.
const inactive = 10 * time.Second

// askTimeout is how long an answer about the stream may take before another try: a cluster that loses a node loses answers with it,
// and the client waits for as long as its caller's context, which may be hours.
const askTimeout = 3 * time.Second

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

// errGone says that events were purged before a reader came to them.
var errGone = errors.New("events were purged that were still to be read")

// FirstSequence is the sequence at which the stream begins now; what is before was purged.
func FirstSequence(ctx context.Context, h Host) (uint64, error) { return firstSequence(ctx, h.JS) }

func firstSequence(ctx context.Context, js jetstream.JetStream) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := js.Stream(ctx, natsd.Lifecycle)
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", natsd.Lifecycle, err)
	}
	return max(s.CachedInfo().State.FirstSeq, 1), nil
}

// nothingGone is errGone when the stream does not begin any more where it did.
func nothingGone(ctx context.Context, js jetstream.JetStream, first uint64) error {
	now, err := firstSequence(ctx, js)
	if err == nil && now != max(first, 1) {
		err = errGone
	}
	return err
}

// errStop ends a tail without an error.
var errStop = errors.New("stop")

// tail reads the stream in order from a sequence on, without acknowledgements, and goes on
// reading until each returns an error ([errStop] for a good end) or ctx ends. A lost consumer or
// connection is taken up again behind the last message that each has seen.
func tail(ctx context.Context, js jetstream.JetStream, log *zap.Logger, filters []string, from uint64, each func(Message) error) error {
	from = max(from, 1)
	whole := false // it began where the stream has all
	const soon = 50 * time.Millisecond
	for backoff := soon; ; backoff = min(2*backoff, 2*time.Second) {
		before := from
		first, err := firstSequence(ctx, js)
		if err == nil { // or it would read on over what may be gone
			if whole && from < first {
				return errGone
			}
			whole = from >= first
			err = tailOnce(ctx, js, filters, &from, each)
		}
		if from > before {
			backoff = soon
		}
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

// tailOnce reads until something is amiss.
func tailOnce(ctx context.Context, js jetstream.JetStream, filters []string, from *uint64, each func(Message) error) error {
	reader, err := natsd.NewReader(ctx, js, natsd.Lifecycle, filters, *from)
	if err != nil {
		return err
	}
	//nolint:contextcheck // it watches for as long as the reader reads, whose context it has
	reader.Watch(quietFor, func(ctx context.Context, from uint64) (uint64, bool, error) { return waits(ctx, js, filters, from) })
	defer reader.Close(ctx)
	for {
		m, at, err := reader.Next()
		if err != nil {
			return err
		}
		kind, _, _ := strings.Cut(m.Subject(), ".")
		s := Message{Msg: m, Kind: events.Kind(kind), Sequence: at.Sequence.Stream, Stored: at.Timestamp, Pending: at.NumPending}
		if err := each(s); err != nil {
			return &givenError{err}
		}
		*from = s.Sequence + 1
	}
}

// quietFor is how long nothing may come before it is asked whether something should have.
var quietFor = 5 * time.Second

// waits asks the stream's leader whether there is a message at or behind a sequence that a filter lets through, and where
// the stream ended before it was asked.
func waits(ctx context.Context, js jetstream.JetStream, filters []string, from uint64) (last uint64, there bool, err error) {
	last, err = lastSequence(ctx, js)
	if err != nil || last < from || len(filters) == 0 {
		return last, err == nil && last >= from, err
	}
	for _, filter := range filters {
		_, err := natsd.AskLeader(ctx, js.Conn(), natsd.Lifecycle, map[string]any{"seq": from, "next_by_subj": filter})
		if !errors.Is(err, jetstream.ErrMsgNotFound) {
			return last, err == nil, err
		}
	}
	return last, false, nil
}

// lastSequence asks the stream's leader where the stream ends.
func lastSequence(ctx context.Context, js jetstream.JetStream) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := js.Stream(ctx, natsd.Lifecycle)
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", natsd.Lifecycle, err)
	}
	return s.CachedInfo().State.LastSeq, nil
}

// pendingFor counts the messages from a sequence on that the filters let through.
func pendingFor(ctx context.Context, js jetstream.JetStream, filters []string, from uint64) (uint64, error) {
	c, err := js.CreateConsumer(ctx, natsd.Lifecycle, jetstream.ConsumerConfig{
		FilterSubjects: filters, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(from, 1),
		AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: inactive, MemoryStorage: true, Replicas: 1,
	})
	if err != nil {
		return 0, fmt.Errorf("count what is pending: %w", err)
	}
	defer dropConsumer(ctx, js, c)
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

package natsd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// readerIdle is how long the server keeps a reader that nobody reads.
	readerIdle = 10 * time.Second
	// readerTimeout is how long making a reader may take before another one is tried.
	readerTimeout = 3 * time.Second
	// readerHeartbeat is how often a reader hears that its consumer lives, when there is nothing to read; twice without it, the
	// consumer is gone.
	readerHeartbeat = 2500 * time.Millisecond
)

// errOutOfOrder says that the consumer has handed out a message which never came here.
var errOutOfOrder = errors.New("a message was lost on its way")

// errReconnected says that what was on its way when the connection was lost may be lost with it.
var errReconnected = errors.New("the connection was lost")

// Reader reads a stream in order, without acknowledgements, until something is amiss; then another one is to be made, behind what was
// read. jetstream's ordered consumer would do it by itself, but makes another one of the same name on the same server for as long as
// ten seconds: a cluster places a reader on one of its servers, for half a minute also on one that has just died. A reader is used by
// one goroutine, but for Fail.
type Reader struct {
	js       jetstream.JetStream
	stream   string
	consumer jetstream.Consumer
	messages jetstream.MessagesContext
	handed   uint64 // messages
	from     uint64
	seen     atomic.Uint64 // sequence of the last message
	waiting  atomic.Bool   // for the next one

	reading context.Context //nolint:containedctx // ends with the reader
	fail    context.CancelCauseFunc
	watcher sync.WaitGroup
	failed  bool
}

// NewReader reads the messages of a stream from a sequence on (1 is the beginning) that one of the filters lets through (none: all), until
// ctx ends. The caller closes it.
func NewReader(ctx context.Context, js jetstream.JetStream, stream string, filters []string, from uint64, options ...jetstream.PullMessagesOpt) (*Reader, error) {
	r := &Reader{js: js, stream: stream, from: max(from, 1)}
	reconnected := js.Conn().StatusChanged(nats.CONNECTED)
	creating, created := context.WithTimeout(ctx, readerTimeout)
	defer created()
	var err error
	r.consumer, err = js.CreateConsumer(creating, stream, jetstream.ConsumerConfig{
		FilterSubjects: filters, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.from,
		AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: readerIdle, MemoryStorage: true, Replicas: 1,
	})
	if err == nil {
		r.messages, err = r.consumer.Messages(append([]jetstream.PullMessagesOpt{jetstream.PullHeartbeat(readerHeartbeat)}, options...)...)
	}
	if err != nil {
		js.Conn().RemoveStatusListener(reconnected)
		return nil, fmt.Errorf("read %s: %w", stream, err)
	}
	r.reading, r.fail = context.WithCancelCause(ctx)
	r.watcher.Go(func() {
		defer js.Conn().RemoveStatusListener(reconnected)
		select {
		case <-r.reading.Done():
		case <-reconnected:
			r.fail(errReconnected)
		}
	})
	return r, nil
}

// Pending is how many messages there were for the reader when it was made, by the copy of the stream that it reads.
func (r *Reader) Pending() uint64 { return r.consumer.CachedInfo().NumPending }

// Next waits for the next message.
func (r *Reader) Next() (m jetstream.Msg, at *jetstream.MsgMetadata, err error) {
	r.waiting.Store(true)
	m, err = r.messages.Next(jetstream.NextContext(r.reading))
	r.waiting.Store(false)
	if err != nil {
		err = cmp.Or(context.Cause(r.reading), err)
	} else if at, err = m.Metadata(); err == nil {
		if r.handed++; at.Sequence.Consumer != r.handed {
			err = errOutOfOrder
		}
	}
	if err != nil {
		r.failed = true
		return nil, nil, fmt.Errorf("read %s: %w", r.stream, err)
	}
	r.seen.Store(at.Sequence.Stream)
	return m, at, nil
}

// Fail ends what Next waits for, with an error.
func (r *Reader) Fail(err error) { r.fail(err) }

// Close ends the reading. Its context is NewReader's, and may have ended.
func (r *Reader) Close(ctx context.Context) {
	r.fail(nil)
	r.messages.Stop()
	r.watcher.Wait()
	if r.failed && ctx.Err() == nil {
		return // its server may be gone, and the next reader would wait for it: the consumer goes by itself
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = r.js.DeleteConsumer(clean, r.stream, r.consumer.CachedInfo().Name) // or it goes by itself
}

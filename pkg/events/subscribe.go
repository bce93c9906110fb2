package events

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Handler handles one event. Its error is the verdict: nil is done, a plain error is tried again
// with backoff, [Retry] says when, [Reject] never. Until the verdict is one of done and rejected,
// later events of the subscription wait: the order is kept. ctx ends when the subscription does.
// An event may come more than once; its ID tells.
type Handler func(ctx context.Context, e Event) error

const (
	ackWait       = 30 * time.Second
	forgetDurable = 7 * 24 * time.Hour
	forgetOrdered = time.Minute
)

type subscription struct {
	client   *Client
	selector Selector
	handle   Handler
	opts     subscribeOptions
	durable  bool
	messages jetstream.MessagesContext
	cleanup  func()
	cancel   context.CancelFunc
	done     chan struct{}
}

// Subscribe hands the selected facts to the handler, one after the other, in the stream's order,
// in one goroutine. It ends when stop is called, when ctx ends, or with the client; stop waits
// for a running handler, so do not call it from there. A subscription outlives a lost
// connection.
func (c *Client) Subscribe(ctx context.Context, sel Selector, handle Handler, opts ...SubscribeOption) (stop func(), err error) {
	if err := sel.check(); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	o := subscribeOptions{minBackoff: 100 * time.Millisecond, maxBackoff: 30 * time.Second, onReject: func(Event, error) {}}
	for _, opt := range opts {
		opt(&o)
	}
	s := &subscription{client: c, selector: sel, handle: handle, opts: o, durable: o.durable != "", done: make(chan struct{})}
	if s.durable {
		err = s.openDurable(ctx)
	} else {
		err = s.openOrdered(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", asClientError(err))
	}
	run, cancel := context.WithCancel(ctx)
	s.cancel = cancel
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		cancel()
		s.messages.Stop()
		return nil, ErrClosed
	}
	c.subs[s] = struct{}{}
	c.mu.Unlock()
	go s.run(run)
	return s.stop, nil
}

// openOrdered reads without acks: where the subscription stands is known only here.
func (s *subscription) openOrdered(ctx context.Context) error {
	from := s.opts.from
	if from == 0 {
		// Not "what is new" by the server's word: a consumer that has to be made again before its first message
		// would begin later than this one.
		last, _, err := s.client.end(ctx)
		if err != nil {
			return err
		}
		from = last + 1
	}
	var err error
	s.messages, s.cleanup, err = s.client.ordered(ctx, s.selector, from)
	return err
}

func (s *subscription) openDurable(ctx context.Context) error {
	js, name := s.client.js, s.client.principal+"-"+s.opts.durable
	cfg := jetstream.ConsumerConfig{
		Durable: name, FilterSubject: s.selector.subject(), AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait,
		// With one message out at a time a redelivered one cannot come after its successors.
		MaxAckPending: 1, InactiveThreshold: forgetDurable, DeliverPolicy: jetstream.DeliverNewPolicy,
	}
	if s.opts.from > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, s.opts.from
	}
	consumer, err := js.Consumer(ctx, streamName, name)
	var api *jetstream.APIError
	switch {
	case err == nil:
		// Where it began cannot be changed, and has no meaning any more.
		have := consumer.CachedInfo().Config
		cfg.DeliverPolicy, cfg.OptStartSeq, cfg.OptStartTime = have.DeliverPolicy, have.OptStartSeq, have.OptStartTime
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.As(err, &api) && api.Code == 404:
	default:
		return err
	}
	if consumer, err = js.CreateOrUpdateConsumer(ctx, streamName, cfg); err != nil {
		return err
	}
	s.cleanup = func() {}
	s.messages, err = consumer.Messages()
	return err
}

func (s *subscription) stop() {
	s.cancel()
	<-s.done
}

func (s *subscription) run(ctx context.Context) {
	defer close(s.done)
	defer func() {
		s.client.mu.Lock()
		delete(s.client.subs, s)
		s.client.mu.Unlock()
		s.cancel()
		s.release()
		s.cleanup()
	}()
	for {
		m, err := s.messages.Next(jetstream.NextContext(ctx))
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return
		case errors.Is(err, jetstream.ErrNoHeartbeat), errors.Is(err, nats.ErrTimeout):
			s.client.onError(fmt.Errorf("subscription to %s: %w", s.selector.subject(), err))
			continue
		default:
			s.client.onError(fmt.Errorf("subscription to %s ended: %w", s.selector.subject(), err))
			return
		}
		if !s.deliver(ctx, m) {
			return
		}
	}
}

// release ends the reading and gives a message that is here already back to the server, which
// would wait for a verdict on it otherwise.
func (s *subscription) release() {
	if s.durable {
		s.messages.Drain()
		_ = s.client.nc.FlushTimeout(drainTimeout) // then all that was under way is here
		for {
			m, err := s.messages.Next(jetstream.NextMaxWait(100 * time.Millisecond))
			if err != nil {
				break
			}
			_ = m.Nak() // failing, it comes again when the server has waited long enough
		}
	}
	s.messages.Stop()
}

// deliver handles a message until it has a verdict that lasts; false means that the subscription
// ended before.
func (s *subscription) deliver(ctx context.Context, m jetstream.Msg) bool {
	e, err := fromStream(m)
	if err != nil {
		s.opts.onReject(e, err)
		s.settle(ctx, func() error { return m.TermWithReason("unreadable") })
		return true
	}
	if !s.selector.wants(&e) {
		s.settle(ctx, func() error { return m.Ack() })
		return true
	}
	if s.durable {
		defer keepAlive(m)()
	}
	for backoff := s.opts.minBackoff; ; backoff = min(2*backoff, s.opts.maxBackoff) {
		err := s.handle(ctx, e)
		switch after, retry := RetryAfter(err); {
		case err == nil:
			s.settle(ctx, func() error { return m.Ack() })
			return true
		case Rejected(err):
			s.opts.onReject(e, err)
			s.settle(ctx, func() error { return m.TermWithReason(firstLine(err)) })
			return true
		case ctx.Err() != nil:
			s.settle(ctx, func() error { return m.Nak() }) // somebody else may have it at once
			return false
		case retry:
			if !wait(ctx, after) {
				s.settle(ctx, func() error { return m.Nak() })
				return false
			}
		default:
			if !wait(ctx, backoff) {
				s.settle(ctx, func() error { return m.Nak() })
				return false
			}
		}
	}
}

// settle sends a verdict to the server, where it keeps them. When that fails the event comes again.
func (s *subscription) settle(ctx context.Context, send func() error) {
	if !s.durable {
		return
	}
	if ctx.Err() != nil {
		s.messages.Drain() // or the server answers the ack with the next message
	}
	if err := send(); err != nil {
		s.client.onError(fmt.Errorf("acknowledge: %w", err))
	}
}

// keepAlive tells the server that the message is being worked on, until the returned function
// is called.
func keepAlive(m jetstream.Msg) (end func()) {
	stop := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		tick := time.NewTicker(ackWait / 3)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				_ = m.InProgress() // failing, it costs a redelivery
			}
		}
	})
	return func() { close(stop); ended.Wait() }
}

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// fromStream reads a message of the stream LIFECYCLE; position and time are set also when it
// cannot be read.
func fromStream(m jetstream.Msg) (Event, error) {
	e, err := Decode(m.Headers(), m.Data())
	e.Kind = Stated
	if meta, metaErr := m.Metadata(); metaErr == nil {
		e.Sequence, e.Stored = meta.Sequence.Stream, meta.Timestamp.UTC()
	}
	return e, err
}

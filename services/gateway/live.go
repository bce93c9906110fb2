package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// item is a claim or fact as listeners get it.
type item struct {
	event      events.Event
	structured []byte
}

// listener is whoever wants to hear of events as they come. It never blocks the others: when its channel is full it is
// dropped, which closes the channel.
type listener struct {
	wants func(*events.Event) bool
	items chan item
	slow  bool // why the channel was closed; written before it is
}

// live reads the end of the stream once and shares what it reads among all listeners.
type live struct {
	host   service.Host
	log    *zap.Logger
	buffer int
	begun  chan struct{} // closed when every later event will be shared

	mu        sync.Mutex
	listeners map[*listener]struct{}
	closed    bool
	dropped   uint64
}

func newLive(h service.Host, log *zap.Logger, buffer int) *live {
	return &live{host: h, log: log, buffer: buffer, begun: make(chan struct{}), listeners: map[*listener]struct{}{}}
}

// run shares events until ctx ends.
func (l *live) run(ctx context.Context) error {
	var last uint64
	for {
		var err error
		if last, err = service.LastSequence(ctx, l.host); err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		pause(ctx, time.Second)
	}
	close(l.begun)
	return service.Tail(ctx, l.host, query{}.filters(), last+1, func(m service.Message) error {
		e, err := m.Event()
		if err != nil {
			l.log.Error("an event can not be read", zap.Uint64("sequence", m.Sequence), zap.Error(err))
			return nil
		}
		l.share(e, m.Data())
		return nil
	})
}

// share hands an event to whoever wants it.
func (l *live) share(e events.Event, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var structured []byte
	for s := range l.listeners {
		if !s.wants(&e) {
			continue
		}
		if structured == nil {
			var err error
			if structured, err = events.EncodeStructuredWith(e, data); err != nil {
				l.log.Error("an event can not be shown", zap.Uint64("sequence", e.Sequence), zap.Error(err))
				return
			}
		}
		select {
		case s.items <- item{e, structured}:
		default:
			s.slow = true
			l.dropped++
			delete(l.listeners, s)
			close(s.items)
		}
	}
}

var errStopping = errors.New("the gateway is stopping")

// listen begins to share with a new listener; it is to be given back to leave.
func (l *live) listen(ctx context.Context, wants func(*events.Event) bool) (*listener, error) {
	select {
	case <-l.begun:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s := &listener{wants: wants, items: make(chan item, l.buffer)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errStopping
	}
	l.listeners[s] = struct{}{}
	return s, nil
}

func (l *live) leave(s *listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.listeners, s)
}

// close sends all listeners away, for good.
func (l *live) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for s := range l.listeners {
		delete(l.listeners, s)
		close(s.items)
	}
}

// counts are the listeners there are, and those that were dropped so far.
func (l *live) counts() (listening int, dropped uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.listeners), l.dropped
}

package gateway

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// coalesce is how long after events were shown the next are gathered: a thousand readers are woken, and written to, this
// often at most, however many events there are. The first event after a silence waits for nothing.
const coalesce = 50 * time.Millisecond

// live shares the end of the stream, which is read once, among all who listen. It keeps the latest events once for all;
// a reader has a place among them only. One whose place is overwritten is dropped, and blocks nobody.
type live struct {
	host   service.Host
	log    *zap.Logger
	tail   tail
	buffer int
	begun  chan struct{} // closed when every later event will be shared

	mu      sync.Mutex
	latest  []*item // a ring: event n, counted from the start, is at n modulo its length
	next    uint64  // number of the next event
	readers map[*reader]struct{}
	waiters map[*waiter]struct{}
	changed chan struct{} // closed when readers are to look
	shown   time.Time     // when it was closed last
	armed   bool          // it will be, soon
	closed  bool
	dropped uint64
}

// reader is whoever takes all events that come.
type reader struct {
	next uint64
	slow bool // was dropped
}

// waiter is whoever waits for one event: it gets those that it may be at once.
type waiter struct {
	wants func(*events.Event) bool
	items chan *item
}

// item is a claim or fact as all see it. What it looks like to readers is made when the first asks.
type item struct {
	event events.Event
	data  []byte // the CDEvent

	once       sync.Once
	structured []byte
	frame      []byte // as a server-sent event
	err        error
}

// json is the event in structured mode.
func (i *item) json() ([]byte, error) {
	i.once.Do(func() {
		if i.structured, i.err = events.EncodeStructuredWith(i.event, i.data); i.err != nil {
			return
		}
		b := make([]byte, 0, len(i.structured)+64)
		b = append(b, "id: "...)
		b = strconv.AppendUint(b, i.event.Sequence, 10)
		b = append(b, "\nevent: "...)
		b = append(b, events.KindName(i.event.Kind)...)
		b = append(b, "\ndata: "...)
		from := len(b)
		b = append(b, i.structured...) // one line: JSON as encoding/json writes it
		to := len(b)
		b = append(b, "\n\n"...)
		i.structured, i.frame = b[from:to:to], b
	})
	return i.structured, i.err
}

func newLive(h service.Host, log *zap.Logger, buffer int, t tail) *live {
	return &live{
		host: h, log: log, buffer: buffer, tail: t, begun: make(chan struct{}), latest: make([]*item, buffer), changed: make(chan struct{}),
		readers: map[*reader]struct{}{}, waiters: map[*waiter]struct{}{},
	}
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
	return l.tail(ctx, last+1, func(m service.Message) error {
		if m.Kind != events.Result {
			l.share(m)
		}
		return nil
	})
}

// share shows an event to all who listen. Where nobody does, it is not even decoded.
func (l *live) share(m service.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.readers)+len(l.waiters) == 0 {
		return
	}
	e, err := m.Event()
	if err != nil {
		l.log.Error("an event can not be read", zap.Uint64("sequence", m.Sequence), zap.Error(err))
		return
	}
	i := &item{event: e, data: m.Data()}
	for w := range l.waiters {
		if w.wants(&i.event) {
			select {
			case w.items <- i:
			default:
				l.drop(w)
			}
		}
	}
	if len(l.readers) > 0 {
		l.keep(i)
	}
}

// keep puts an event in the place of the oldest, and drops the readers that had not come further.
func (l *live) keep(i *item) {
	l.latest[l.next%uint64(len(l.latest))] = i
	l.next++
	if l.next > uint64(len(l.latest)) {
		oldest := l.next - uint64(len(l.latest))
		for r := range l.readers {
			if r.next < oldest {
				r.slow = true
				l.dropped++
				delete(l.readers, r)
			}
		}
	}
	if l.armed {
		return
	}
	rest := coalesce - time.Since(l.shown)
	if rest <= 0 {
		l.show()
		return
	}
	l.armed = true
	time.AfterFunc(rest, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.armed = false
		l.show()
	})
}

// show wakes the readers.
func (l *live) show() {
	l.shown = time.Now()
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *live) drop(w *waiter) {
	delete(l.waiters, w)
	close(w.items)
}

var (
	errStopping = errors.New("the gateway is stopping")
	errSlow     = errors.New("too slow to keep up")
)

// atATime is how many events a reader takes at a time.
const atATime = 64

// take returns the events behind the reader's place, some at a time, in the room of into. Where there are none, changed is
// closed when there may be. The error is errSlow, or errStopping.
func (l *live) take(r *reader, into []*item) (items []*item, changed <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case r.slow:
		return nil, nil, errSlow
	case l.closed:
		return nil, nil, errStopping
	}
	for ; r.next < l.next && len(into) < atATime; r.next++ {
		into = append(into, l.latest[r.next%uint64(len(l.latest))])
	}
	return into, l.changed, nil
}

// read begins to share with a new reader; it is to be given back to leave.
func (l *live) read(ctx context.Context) (*reader, error) {
	if err := l.begin(ctx); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errStopping
	}
	r := &reader{next: l.next}
	l.readers[r] = struct{}{}
	return r, nil
}

func (l *live) leave(r *reader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.readers, r)
	if len(l.readers) == 0 {
		clear(l.latest) // nobody's place is among them
	}
}

// wait begins to share with somebody who waits for an event; it is to be given back to leave. Its channel is closed when
// it is too slow, or when the gateway stops.
func (l *live) wait(ctx context.Context, wants func(*events.Event) bool) (*waiter, error) {
	if err := l.begin(ctx); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errStopping
	}
	w := &waiter{wants: wants, items: make(chan *item, l.buffer)}
	l.waiters[w] = struct{}{}
	return w, nil
}

func (l *live) forget(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiters, w)
}

func (l *live) begin(ctx context.Context) error {
	select {
	case <-l.begun:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close sends all away, for good.
func (l *live) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	clear(l.readers)
	for w := range l.waiters {
		l.drop(w)
	}
	l.show()
}

// counts are those who listen, and the readers that were dropped so far.
func (l *live) counts() (listening int, dropped uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.readers) + len(l.waiters), l.dropped
}

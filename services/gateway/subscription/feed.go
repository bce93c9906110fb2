package subscription

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// What the feed keeps for whoever is not quite as fast.
const (
	feedItems = 1024
	feedBytes = 32 << 20
)

// feed is the one reader of the stream's end. It keeps the latest facts for all subscriptions together; one that is
// further behind reads the stream for itself (behind).
type feed struct {
	tail  Tail
	turns *turns

	mu    sync.Mutex
	items []*item
	bytes int
	first uint64 // every fact at or above it, up to last, is among the items
	last  uint64 // the last message that was read, of whatever kind
	fact  uint64 // the last fact that was read

	telling sync.Mutex           // not held while mu is
	told    map[*worker]struct{} // of every fact
}

// newFeed begins behind the end that the stream has now.
func newFeed(ctx context.Context, h service.Host, tail Tail, t *turns) (*feed, error) {
	last, err := service.LastSequence(ctx, h)
	if err != nil {
		return nil, err
	}
	return &feed{tail: tail, turns: t, first: last + 1, last: last, fact: last, told: map[*worker]struct{}{}}, nil
}

// run reads until ctx ends. Without a filter: that costs the server less, and half of the messages are facts.
func (f *feed) run(ctx context.Context) error {
	return f.tail(ctx, f.first, func(m service.Message) error {
		if m.Kind != events.Stated {
			f.mu.Lock()
			f.last = m.Sequence
			f.mu.Unlock()
			return nil
		}
		f.take(newItem(m.Sequence, m.Stored, m.Subject(), m.Headers(), m.Data()))
		return nil
	})
}

// take keeps a fact, and tells all of it; they look at the feed meanwhile.
func (f *feed) take(i *item) {
	f.keep(i)
	f.telling.Lock()
	defer f.telling.Unlock()
	f.turns.askAll(f.told)
}

func (f *feed) keep(i *item) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.items = append(f.items, i)
	f.bytes += i.size()
	f.last, f.fact = i.sequence, i.sequence
	drop := 0
	for len(f.items)-drop > feedItems || f.bytes > feedBytes {
		f.bytes -= f.items[drop].size()
		f.first = f.items[drop].sequence + 1
		drop++
	}
	if drop > 0 {
		clear(f.items[:drop]) // or the array would hold on to them
		f.items = f.items[drop:]
	}
}

// add has a worker get a turn with every fact, until it leaves.
func (f *feed) add(w *worker) {
	f.telling.Lock()
	defer f.telling.Unlock()
	f.told[w] = struct{}{}
}

func (f *feed) leave(w *worker) {
	f.telling.Lock()
	defer f.telling.Unlock()
	delete(f.told, w)
}

// after are the facts behind a sequence, as many as there is room for, and the sequence up to which they are all. ok is false when the
// feed does not reach back that far.
func (f *feed) after(sequence uint64, room []*item) (items []*item, upTo uint64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if sequence+1 < f.first {
		return nil, 0, false
	}
	from := sort.Search(len(f.items), func(n int) bool { return f.items[n].sequence > sequence })
	if most := cap(room); len(f.items)-from > most {
		items = room[:copy(room[:most], f.items[from:])]
		return items, items[most-1].sequence, true
	}
	return append(room[:0], f.items[from:]...), max(sequence, f.last), true
}

// ends are the first sequence that the feed reaches back to, and that of the last fact.
func (f *feed) ends() (first, fact uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.first, f.fact
}

const (
	behindBatch = 128
	fetchWait   = 2 * time.Second
)

var errBehind = errors.New("the stream does not give what is on it")

// behind reads facts of a project that the feed does not have any more, in order, up to so many. upTo is the sequence up
// to which they are all; it is not beyond what the feed continues from.
func behind(ctx context.Context, h service.Host, project string, after, first uint64) (items []*item, upTo uint64, err error) {
	filter := string(events.Stated) + "." + project + ".>"
	one := h.Replicas <= 1
	if !one {
		// The member of a cluster that answers may itself be behind, and then has nothing to give although there is
		// something. The first fact of the feed is there for certain, and with this filter is met.
		filter = string(events.Stated) + ".>"
	}
	c, err := h.JS.CreateConsumer(ctx, natsd.Lifecycle, jetstream.ConsumerConfig{
		FilterSubject: filter, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: 10 * time.Second,
	})
	if err != nil {
		return nil, after, fmt.Errorf("read what is behind: %w", err)
	}
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = h.JS.DeleteConsumer(clean, natsd.Lifecycle, c.CachedInfo().Name) // or the server forgets it by itself
	}()
	if c.CachedInfo().NumPending == 0 {
		if one {
			return nil, max(after, first-1), nil
		}
		return nil, after, errBehind
	}
	batch, err := c.Fetch(int(min(behindBatch, c.CachedInfo().NumPending)), jetstream.FetchMaxWait(fetchWait))
	if err != nil {
		return nil, after, fmt.Errorf("read what is behind: %w", err)
	}
	upTo = after
	expected, ended := uint64(1), false
	for m := range batch.Messages() {
		meta, err := m.Metadata()
		if err != nil || meta.Sequence.Consumer != expected {
			break // nothing is acknowledged, so a message that was lost on the way shows as a gap
		}
		expected++
		i := newItem(meta.Sequence.Stream, meta.Timestamp, m.Subject(), m.Headers(), m.Data())
		if i.project == project {
			items = append(items, i)
		}
		upTo, ended = i.sequence, meta.NumPending == 0
	}
	if expected == 1 {
		return nil, after, fmt.Errorf("read what is behind: %w", errors.Join(errBehind, batch.Error()))
	}
	if ended && one {
		upTo = max(upTo, first-1)
	}
	return items, upTo, nil
}

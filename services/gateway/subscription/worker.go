package subscription

import (
	"context"
	"errors"
	"hash"
	"math"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/lemnis/lemnis/internal/service"
)

// What one subscription may hold in memory.
const (
	window      = 512
	windowBytes = 8 << 20
)

const (
	saveEvery = time.Second      // while something is delivered
	saveRead  = 10 * time.Second // while facts are only passed over
	drain     = 2 * time.Second  // for requests under way when a worker ends
)

// worker delivers one subscription's facts: those of an aggregate one after the other, those of others at the same time.
// One goroutine (run) decides; requests are sent by others, so that its stack stays small.
type worker struct {
	manager  *Manager
	host     service.Host
	log      *zap.Logger
	store    store
	feed     *feed
	clients  *clients
	senders  *senders
	patience Patience
	record   record
	wanted   predicate
	to       *target
	head     []byte // that its deliveries have in common
	signing  sync.Mutex
	mac      hash.Hash

	// Of run alone.
	revision  uint64
	at        uint64       // what has been taken in, or passed over
	behind    <-chan input // while the stream is read, which the feed does not reach back to
	readers   sync.WaitGroup
	lanes     map[string]*lane
	ready     []*lane // have something to send now
	inflight  int
	slots     int       // requests that there may be at a time now; it grows to what the patience allows
	widened   time.Time // when it grew last
	prompt    bool      // the receiver answered at once when it was heard of last
	held      int
	heldBytes int
	quiet     time.Time // until then nothing is sent
	limiter   *rate.Limiter
	results   chan result
	due       chan *lane
	saved     time.Time
	settledAt bool // something was settled, or failed, since the last save

	mu   sync.Mutex
	s    state
	open map[uint64]*attempt
}

// lane is the facts of one aggregate that wait, in order.
type lane struct {
	name  string
	queue []*attempt
}

// attempt is a fact on its way.
type attempt struct {
	item  *item
	tries int
	since time.Time
}

type result struct {
	lane    *lane
	outcome outcome
	prompt  bool // the receiver answered at once
}

// input is what the reader hands over: a fact that is wanted, or that all up to a sequence have been looked at.
type input struct {
	item     *item
	attempt  *attempt // one from before a restart
	read     uint64
	unjudged error
}

// errDisabled ends a worker whose sink wants no more.
var errDisabled = errors.New("disabled")

// work delivers until ctx ends, the sink is gone, or somebody else writes the state.
func (w *worker) work(ctx context.Context) error {
	if err := w.begin(ctx); err != nil {
		return err
	}
	if w.status().State == Disabled {
		return errDisabled
	}
	if err := w.agree(ctx); err != nil {
		return err
	}
	return w.run(ctx)
}

// run delivers until ctx ends.
func (w *worker) run(ctx context.Context) error {
	w.lanes, w.results, w.due = map[string]*lane{}, make(chan result), make(chan *lane)
	left := w.reopen()
	if perMinute := w.s.Rate; perMinute > 0 {
		perSecond := float64(perMinute) / 60
		w.limiter = rate.NewLimiter(rate.Limit(perSecond), max(1, int(math.Floor(perSecond))))
	}
	// Requests outlive ctx by a little, so that what arrives is not sent again by whoever goes on.
	sending, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	reading, stopReading := context.WithCancel(ctx)
	defer func() { stopReading(); w.readers.Wait(); stopSending() }()
	w.at = w.status().Read
	if len(left) > 0 {
		w.readBehind(reading, left)
	}

	err := w.loop(reading, sending)
	stopReading()
	if errors.Is(err, ErrConflict) {
		return err // somebody else delivers
	}
	w.finish(sending)
	if saveErr := w.save(sending); saveErr != nil || ctx.Err() != nil {
		return saveErr
	}
	return err
}

func (w *worker) loop(ctx, sending context.Context) error {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	wake := time.NewTimer(time.Hour)
	defer wake.Stop()
	for {
		changed := w.takeNew(ctx)
		if wait := w.launch(sending); wait > 0 {
			wake.Reset(wait)
		}
		behind := w.behind
		if w.full() {
			behind = nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case i, more := <-behind:
			if !more {
				w.behind = nil
				continue
			}
			w.at = max(w.at, i.read)
			w.take(i)
		case l := <-w.due:
			w.ready = append(w.ready, l)
		case r := <-w.results:
			if err := w.settle(ctx, r); err != nil {
				return err
			}
		case <-wake.C:
		case <-tick.C:
			if w.settledAt || time.Since(w.saved) > saveRead {
				var err error
				if aside(func() { err = w.save(ctx) }); err != nil {
					if errors.Is(err, ErrConflict) {
						return err
					}
					w.log.Warn("the progress of a subscription can not be saved; trying again", zap.Error(err))
				}
			}
		}
	}
}

// full tells that no more may be held.
func (w *worker) full() bool { return w.held >= window || w.heldBytes >= windowBytes }

// take queues a fact, or notes that others were passed over.
func (w *worker) take(i input) {
	w.mu.Lock()
	w.s.Read = max(w.s.Read, i.read)
	if i.unjudged != nil {
		w.s.Unjudged++
		w.s.LastError, w.s.LastErrorAt = "a filter failed: "+oneLine(i.unjudged.Error()), time.Now().UTC()
	}
	if i.item == nil {
		if i.attempt != nil {
			delete(w.open, i.read) // it is not on the stream any more
		}
		w.mu.Unlock()
		return
	}
	a := i.attempt
	if a == nil {
		a = &attempt{}
	}
	a.item = i.item
	w.open[i.item.sequence] = a
	w.mu.Unlock()
	w.held++
	w.heldBytes += i.item.size()
	l := w.lanes[i.item.lane]
	if l == nil {
		l = &lane{name: i.item.lane}
		w.lanes[l.name] = l
		w.ready = append(w.ready, l)
	}
	l.queue = append(l.queue, a)
}

// settle acts on what became of a try.
func (w *worker) settle(ctx context.Context, r result) error {
	w.inflight--
	w.prompt = r.prompt
	l, a := r.lane, r.lane.queue[0]
	w.settledAt = true
	w.mu.Lock()
	if r.outcome.reason != "" {
		w.s.LastError, w.s.LastErrorAt = r.outcome.reason, time.Now().UTC()
	}
	switch r.outcome.verdict {
	case delivered:
		w.s.Delivered++
		w.s.Sequence = max(w.s.Sequence, a.item.sequence)
	case refused:
		w.s.DeadLettered++
	case gone:
		w.s.State, w.s.Reason = Disabled, r.outcome.reason
		w.mu.Unlock()
		return errDisabled
	case again:
		w.s.Retried++
		w.mu.Unlock()
		wait := max(backoff(w.patience.Least, w.patience.Most, a.tries), r.outcome.after)
		if r.outcome.whole {
			w.quiet = time.Now().Add(wait)
		}
		time.AfterFunc(wait, func() {
			select {
			case w.due <- l:
			case <-ctx.Done():
			}
		})
		return nil
	}
	delete(w.open, a.item.sequence)
	w.mu.Unlock()
	w.held--
	w.heldBytes -= a.item.size()
	l.queue[0] = nil
	if l.queue = l.queue[1:]; len(l.queue) == 0 {
		delete(w.lanes, l.name)
	} else {
		w.ready = append(w.ready, l)
	}
	return nil
}

// finish waits a little for requests under way.
func (w *worker) finish(ctx context.Context) {
	grace := time.NewTimer(drain)
	defer grace.Stop()
	for w.inflight > 0 {
		select {
		case r := <-w.results:
			w.mu.Lock()
			disabled := w.s.State == Disabled
			w.mu.Unlock()
			if r.outcome.verdict == again || r.outcome.verdict == gone && disabled {
				w.inflight--
				continue
			}
			_ = w.settle(ctx, r) // that it is disabled shows in the state
		case <-grace.C:
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

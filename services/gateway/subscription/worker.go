package subscription

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
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
	saveIdle  = 5 * time.Minute  // while there are none
	drain     = 2 * time.Second  // for requests under way when a worker ends

	saveTimeout = 5 * time.Second
)

// worker delivers one subscription's facts: those of an aggregate one after the other, those of others at the same time.
// It decides in turns, which goroutines that all share give it.
type worker struct {
	manager  *Manager
	host     service.Host
	store    store
	feed     *feed
	clients  *clients
	turns    *turns
	patience Patience
	record   *record // its keeper's
	wanted   predicate
	to       *target
	head     []byte // that its deliveries have in common
	signer   *signer

	turn turn
	mail mail

	ctx     context.Context //nolint:containedctx // it has turns until this ends
	sending context.Context //nolint:containedctx // of its requests: outlives ctx by a little, so that what arrives is not sent again by whoever goes on
	stop    func()          // of sending
	noMore  func() bool     // that ctx ends is not told
	over    func(error)     // is called when all is done

	// Of its turns alone.
	ended     bool
	revision  uint64
	at        uint64       // what has been taken in, or passed over
	behind    <-chan input // while the stream is read, which the feed does not reach back to
	notBehind func()       // ends that
	readers   sync.WaitGroup
	lanes     map[string]*lane // nil while nothing waits: a map keeps the room that a burst took
	ready     []*lane          // have something to send now
	later     []*lane          // are tried again, the next one first; no timers of theirs, which would outlive the worker
	inflight  int
	slots     int       // requests that there may be at a time now; it grows to what the patience allows
	widened   time.Time // when it grew last
	prompt    bool      // the receiver answered at once when it was heard of last
	held      int
	heldBytes int
	quiet     time.Time // until then nothing is sent
	limiter   *rate.Limiter
	wake      *time.Timer // for a turn that nobody else asks for
	saveAt    time.Time
	saving    bool
	settledAt bool // something was settled, or failed, since the last save
	passedAt  bool // facts were passed over since then

	mu   sync.Mutex
	s    state
	open map[uint64]*attempt // nil when there are none
}

// lane is the facts of one aggregate that wait, in order.
type lane struct {
	name  string
	queue []*attempt
	due   time.Time // of the first one's next try
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

// errSaving says that the state was still being written when a worker ended.
var errSaving = errors.New("the bus does not answer")

// begins reads how far the subscription has come, and asks the sink until it agrees.
func (w *worker) begins(ctx context.Context) error {
	if err := w.begin(ctx); err != nil {
		return err
	}
	if w.status().State == Disabled {
		return errDisabled
	}
	return w.agree(ctx)
}

// start has the worker deliver in turns until ctx ends, the sink is gone, or somebody else writes the state.
func (w *worker) start(ctx context.Context, over func(error)) {
	w.over = over
	left := w.reopen()
	if perMinute := w.s.Rate; perMinute > 0 {
		perSecond := float64(perMinute) / 60
		w.limiter = rate.NewLimiter(rate.Limit(perSecond), max(1, int(math.Floor(perSecond))))
	}
	w.ctx = ctx
	w.sending, w.stop = context.WithCancel(context.WithoutCancel(ctx))
	w.at, w.saveAt = w.status().Read, time.Now().Add(about(saveIdle))
	if len(left) > 0 {
		w.readBehind(left) //nolint:contextcheck // it is the worker's own
	}
	w.feed.add(w)
	ask := func() { w.turns.ask(w) }
	w.wake = time.AfterFunc(saveRead, ask)
	w.noMore = context.AfterFunc(ctx, ask)
	w.turns.begin(w)
}

// takeTurn does what there is to do, but for what would take long: it says whether there is more. late says that it had to wait; room is
// for facts.
func (w *worker) takeTurn(late bool, room []*item) (more bool) {
	if w.ended {
		return false
	}
	err := w.ctx.Err()
	if err == nil {
		more, err = w.step(late, room)
	}
	if err == nil {
		return more
	}
	w.ended = true
	go w.end(err)
	return false
}

func (w *worker) step(late bool, room []*item) (more bool, err error) {
	results, saved := w.opened()
	if err := w.wrote(saved); err != nil { // before what may end the worker, which would wait for it in vain
		return false, err
	}
	for n, r := range results {
		if err := w.settle(r); err != nil {
			w.putBack(results[n+1:])
			return false, err
		}
	}
	w.takeDue(time.Now())
	w.takeBehind()
	more = w.takeNew(room)
	full := w.full()
	sent, wait := w.launch(late)
	if until := w.saveSoon(); wait == 0 || until < wait {
		wait = until
	}
	if len(w.later) > 0 {
		wait = min(wait, max(0, time.Until(w.later[0].due)))
	}
	w.wake.Reset(wait)
	return more || sent || full && !w.full(), nil
}

// about is three quarters of a time, or a little more: facts come to all workers at once, and those who began together should not go on
// together.
func about(d time.Duration) time.Duration { return d*3/4 + rand.N(d/4) } //nolint:gosec // no secret

// saveSoon begins to save when it is time to; it says when that will be.
func (w *worker) saveSoon() time.Duration {
	rest, most := time.Until(w.saveAt), saveIdle
	switch {
	case w.settledAt:
		most = saveEvery
	case w.passedAt:
		most = saveRead
	}
	if rest > most {
		rest = about(most)
		w.saveAt = time.Now().Add(rest)
	}
	if rest > 0 {
		return rest
	}
	if !w.saving {
		w.saving, w.settledAt, w.passedAt = true, false, false
		go func() {
			err := w.save(w.sending)
			w.post(func(m *mail) { m.saved = &saved{err} })
		}()
	}
	return saveRead
}

// wrote notes what became of saving; an error is that somebody else delivers.
func (w *worker) wrote(s *saved) error {
	if s == nil {
		return nil
	}
	w.saving, w.saveAt = false, time.Now().Add(about(saveIdle))
	switch {
	case errors.Is(s.err, ErrConflict):
		return s.err
	case s.err != nil:
		w.settledAt = true
		w.log().Warn("the progress of a subscription can not be saved; trying again", zap.Error(s.err))
	}
	return nil
}

func (w *worker) log() *zap.Logger {
	return w.manager.log.With(zap.String("subscription", w.record.Spec.ID))
}

// end saves how far the worker came when its turns are over. What is under way has a little time.
func (w *worker) end(err error) {
	came := w.noTurns()
	w.feed.leave(w)
	w.noMore()
	w.wake.Stop()
	if w.notBehind != nil {
		w.notBehind()
	}
	w.readers.Wait()
	if !errors.Is(err, ErrConflict) { // else somebody else delivers
		grace := time.NewTimer(drain)
		defer grace.Stop()
		if saveErr := w.finish(came, grace.C); saveErr != nil || w.ctx.Err() != nil {
			err = saveErr
		}
	}
	w.stop()
	w.over(err)
}

// full tells that no more may be held.
func (w *worker) full() bool { return w.held >= window || w.heldBytes >= windowBytes }

// take queues a fact, or notes that others were passed over.
func (w *worker) take(i input) {
	w.passedAt = true
	w.mu.Lock()
	w.s.Read = max(w.s.Read, i.read)
	if i.unjudged != nil {
		w.s.Unjudged++
		w.s.LastError, w.s.LastErrorAt = "a filter failed: "+oneLine(i.unjudged.Error()), time.Now().UTC()
	}
	if i.item == nil {
		if i.attempt != nil {
			w.shut(i.read) // it is not on the stream any more
		}
		w.mu.Unlock()
		return
	}
	a := i.attempt
	if a == nil {
		a = &attempt{}
	}
	a.item = i.item
	if w.open == nil {
		w.open = map[uint64]*attempt{}
	}
	w.open[i.item.sequence] = a
	w.mu.Unlock()
	w.held++
	w.heldBytes += i.item.size()
	l := w.lanes[i.item.lane]
	if l == nil {
		l = &lane{name: i.item.lane}
		if w.lanes == nil {
			w.lanes = map[string]*lane{}
		}
		w.lanes[l.name] = l
		w.ready = append(w.ready, l)
	}
	l.queue = append(l.queue, a)
}

// shut notes that a fact is not open any more; mu is held.
func (w *worker) shut(sequence uint64) {
	if delete(w.open, sequence); len(w.open) == 0 {
		w.open = nil
	}
}

// settle acts on what became of a try.
func (w *worker) settle(r result) error {
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
		w.tryLater(l, time.Now().Add(max(backoff(w.patience.Least, w.patience.Most, a.tries), r.outcome.after)))
		if r.outcome.whole && l.due.After(w.quiet) { // an earlier answer may have asked for more
			w.quiet = l.due
		}
		return nil
	}
	w.shut(a.item.sequence)
	w.mu.Unlock()
	w.held--
	w.heldBytes -= a.item.size()
	l.queue[0] = nil
	if l.queue = l.queue[1:]; len(l.queue) == 0 {
		if delete(w.lanes, l.name); len(w.lanes) == 0 {
			w.lanes = nil
		}
	} else {
		w.ready = append(w.ready, l)
	}
	return nil
}

// tryLater has a lane's first fact tried again.
func (w *worker) tryLater(l *lane, due time.Time) {
	l.due = due
	n := sort.Search(len(w.later), func(n int) bool { return w.later[n].due.After(due) })
	w.later = slices.Insert(w.later, n, l)
}

// takeDue has what is to be tried again by now wait to be sent.
func (w *worker) takeDue(now time.Time) {
	n := sort.Search(len(w.later), func(n int) bool { return w.later[n].due.After(now) })
	w.ready = append(w.ready, w.later[:n]...)
	clear(w.later[:n])
	if w.later = w.later[n:]; len(w.later) == 0 {
		w.later = nil
	}
}

// finish waits for requests under way until the grace is over, and saves, after a save under way.
func (w *worker) finish(came <-chan struct{}, grace <-chan time.Time) error {
	var late <-chan time.Time // when a save under way is not waited for any more
	for {
		results, s := w.opened()
		for _, r := range results {
			w.mu.Lock()
			disabled := w.s.State == Disabled
			w.mu.Unlock()
			if r.outcome.verdict == again || r.outcome.verdict == gone && disabled {
				w.inflight--
				continue
			}
			_ = w.settle(r) // that it is disabled shows in the state
		}
		if err := w.wrote(s); err != nil {
			return err
		}
		if (grace == nil || w.inflight == 0) && !w.saving {
			return w.save(w.sending)
		}
		select {
		case <-came:
		case <-grace:
			grace = nil
			late = time.After(saveTimeout) // it ends by itself before
		case <-late:
			return errSaving
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

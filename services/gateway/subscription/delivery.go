package subscription

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/lemnis/lemnis/internal/service"
)

const userAgent = "Lemnis"

const (
	// beside is how long a request is waited for before another of the same subscription is sent.
	beside = 50 * time.Millisecond
	// prompt is how soon a receiver has to begin its answer to be sent to by the goroutines that all share, one of which it holds.
	prompt = 10 * time.Millisecond
)

// structuredHead is the header of an event that is one JSON object.
var structuredHead = lines(http.Header{"Content-Type": {"application/cloudevents+json"}})

// request is what pushes a fact.
func (w *worker) request(i *item) (q request, err error) {
	q = request{method: http.MethodPost, to: w.to}
	head := structuredHead
	if w.record.Spec.Settings.ContentMode == structured {
		if q.body, err = i.structuredMode(); err != nil {
			return q, fmt.Errorf("the event has no structured form: %w", err)
		}
	} else {
		head, q.body = i.binaryMode()
	}
	q.head = [...][]byte{head, w.head, w.signer.lines(i.attributes["id"], time.Now(), q.body)}
	return q, nil
}

// prepare makes what is the same for all deliveries of a subscription.
func (w *worker) prepare() (err error) {
	if w.to, err = newTarget(w.record.Spec.Sink); err != nil {
		return err
	}
	h := http.Header{}
	for name, value := range w.record.Spec.Settings.Headers {
		h.Set(name, value)
	}
	h.Set("User-Agent", userAgent)
	w.head = lines(h)
	return w.prepareKey()
}

// inATurn is how many facts a worker sends in one turn.
const inATurn = 8

// launch starts what may be sent now. It says whether it stopped although there may be more, and how long to wait when time alone is
// missing.
func (w *worker) launch(late bool) (more bool, wait time.Duration) {
	for sent := 0; len(w.ready) > 0 && w.inflight < w.patience.Parallel; {
		if sent == inATurn {
			return true, 0
		}
		now := time.Now()
		if wait := w.quiet.Sub(now); wait > 0 {
			return false, wait
		}
		if wait := w.widen(now); wait > 0 {
			return false, wait
		}
		if w.limiter != nil {
			r := w.limiter.ReserveN(now, 1)
			if wait := r.DelayFrom(now); wait > 0 {
				r.CancelAt(now)
				return false, wait
			}
		}
		l := w.ready[0]
		if w.ready = w.ready[1:]; len(w.ready) == 0 {
			w.ready = nil
		}
		w.inflight++
		a := l.queue[0]
		w.mu.Lock()
		a.tries++
		if a.since.IsZero() {
			a.since = now
		}
		w.mu.Unlock()
		last := a.tries >= w.tries() || now.Sub(a.since) >= w.age()
		if w.push(l, a, last, late) {
			sent++
		}
	}
	return false, 0
}

// push sends a fact; true when that has been done. The one request of a worker whose receiver answers at once is sent within its turn,
// unless it had to wait for that: what is not answered at once holds up others.
func (w *worker) push(l *lane, a *attempt, last, late bool) (done bool) {
	p := &pushing{w: w, lane: l, attempt: a, last: last, began: time.Now()}
	if w.inflight > 1 || !w.prompt || late {
		go p.wait()
		return false
	}
	o, done := p.atOnce()
	if done {
		_ = w.settle(result{lane: l, outcome: o, prompt: time.Since(p.began) < prompt}) // only what is not delivered can fail
	}
	return done
}

// pushing is one try to send a fact.
type pushing struct {
	w       *worker
	lane    *lane
	attempt *attempt
	last    bool // another try is not made
	began   time.Time
}

// atOnce tells the outcome of a delivery that took no time. Otherwise a goroutine goes on.
func (p *pushing) atOnce() (o outcome, done bool) {
	q, err := p.w.request(p.attempt.item)
	if err != nil {
		go p.conclude(outcome{verdict: refused, reason: err.Error()})
		return o, false
	}
	now, rest := p.w.clients.sendSoon(p.w.sending, prompt, p.w.patience.Timeout, q)
	if rest != nil {
		go func() { p.conclude(p.judge(rest())) }()
		return o, false
	}
	if o = p.judge(now); o.verdict != delivered {
		go p.conclude(o)
		return o, false
	}
	return o, true
}

// wait sends, and waits for the answer.
func (p *pushing) wait() {
	q, err := p.w.request(p.attempt.item)
	if err != nil {
		p.conclude(outcome{verdict: refused, reason: err.Error()})
		return
	}
	p.conclude(p.judge(p.w.clients.send(p.w.sending, p.w.patience.Timeout, q)))
}

func (p *pushing) judge(h heard) outcome {
	o := judge(h, time.Now())
	i := p.attempt.item
	p.w.host.Trace.Delivery(i.project, i.attributes["chainid"], i.attributes["id"], p.w.record.Spec.ID, p.began, o.reason)
	return o
}

// conclude reports what became of the try.
func (p *pushing) conclude(o outcome) {
	a, quick := p.attempt, time.Since(p.began) < prompt
	if o.verdict == again && p.last && p.w.sending.Err() == nil {
		o.verdict, o.reason = refused, fmt.Sprintf("given up after %d tries in %s: %s", a.tries, time.Since(a.since).Round(time.Second), o.reason)
	}
	if o.verdict == refused && !p.w.bury(p.w.sending, a, o.reason) {
		o.verdict = again
	}
	p.w.post(func(m *mail) { m.results = append(m.results, result{p.lane, o, quick}) })
}

// widen says how long to wait for a request under way to end, before another one is sent beside it. A receiver that answers
// at once gets its facts over one connection: each takes memory on both sides, and a burst of facts would open several.
func (w *worker) widen(now time.Time) time.Duration {
	w.slots = max(1, w.slots)
	switch {
	case w.inflight == 0 && len(w.ready) == 1:
		w.slots = 1 // it keeps up
	case w.inflight >= w.slots:
		if wait := beside - now.Sub(w.widened); wait > 0 {
			return wait
		}
		w.slots++
	}
	w.widened = now
	return 0
}

func (w *worker) tries() int {
	if n := w.record.Spec.Config.Tries; n > 0 {
		return n
	}
	return w.patience.Tries
}

func (w *worker) age() time.Duration {
	if d, err := time.ParseDuration(w.record.Spec.Config.Age); err == nil {
		return d
	}
	return w.patience.Age
}

// bury puts a fact into the dead letters; false when ctx ended before it was there.
func (w *worker) bury(ctx context.Context, a *attempt, reason string) bool {
	return service.Bury(ctx, w.host, service.Letter{
		Header: a.item.stored, Data: a.item.body, Subject: a.item.subject, Sequence: a.item.sequence, Project: a.item.project,
		Inbox: DeadLetters, Aggregate: LetterPrefix + w.record.Spec.ID, Tries: uint64(a.tries), Reason: errors.New(reason),
		Again: w.record.askedAgain(a.item.sequence),
	}) == nil
}

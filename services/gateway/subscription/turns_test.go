package subscription

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Receivers that announce an answer in an unusual way, and never give it, hold no turn: others are delivered to meanwhile.
func TestAnnouncedAnswerHoldsNoTurn(t *testing.T) {
	for _, announced := range []string{"HTTP/1.0 103 x\r\n\r\n", "HTTP/1.1  103 x\r\n\r\n", "HTTP/1.1 103 x\r\n\r\n"} {
		t.Run(announced[:13], func(t *testing.T) {
			w := newWorld(t)
			w.manager.options.Patience.Timeout = 3 * patience
			w.run(w.manager)
			var first, second atomic.Int32
			over := make(chan struct{})
			bad := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == http.MethodOptions:
					rw.Header().Set("WebHook-Allowed-Origin", "*")
				case r.Header.Get("Ce-Key") == "warm": // at once, so that its next one is sent within a turn
					first.Add(1)
					rw.WriteHeader(http.StatusNoContent)
				default:
					conn, _, err := rw.(http.Hijacker).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					defer func() { _ = conn.Close() }()
					_, _ = io.WriteString(conn, announced)
					second.Add(1)
					<-over
				}
			}))
			t.Cleanup(func() { close(over); bad.Close() })
			good := newReceiver(t, nil)
			all := []View{w.create(wanted(good.URL))}
			for range turnsAtATime + 1 {
				all = append(all, w.create(wanted(bad.URL)))
			}
			const warm = 5
			for n := range warm {
				w.state("shop", "warm", fmt.Sprint(n))
				w.until("all answered", func() bool {
					return int(first.Load()) == (n+1)*(turnsAtATime+1) && len(good.taken()) == n+1 && w.settled(all)
				})
			}
			w.state("shop", "2", "one")
			w.until("the answers are announced", func() bool { return second.Load() >= turnsAtATime })
			w.state("shop", "3", "one")
			w.until("the good one has all", func() bool { return len(good.taken()) == warm+2 })
		})
	}
}

// byHand makes a worker that has the turns that the test gives it.
func (w *world) byHand(ctx context.Context, v View, kept store) (one *worker, over chan error) {
	w.t.Helper()
	r, _, err := kept.record(ctx, v.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	all := &turns{}
	all.more = sync.NewCond(&all.mu)
	f, err := newFeed(ctx, w.host, nil, all)
	if err != nil {
		w.t.Fatal(err)
	}
	one = &worker{
		manager: w.manager, host: w.host, store: kept, feed: f, clients: w.manager.clients, turns: all, patience: quick, record: &r,
		wanted: func(*item) (bool, error) { return false, nil },
	}
	if err := one.begin(ctx); err != nil {
		w.t.Fatal(err)
	}
	over = make(chan error, 1)
	one.start(ctx, func(err error) { over <- err })
	return one, over
}

func (w *world) kept() store {
	w.t.Helper()
	kept, err := w.manager.store(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return kept
}

func (w *world) stated(id string) state {
	w.t.Helper()
	s, _, err := w.kept().state(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// ended waits for what a worker ended with.
func ended(t *testing.T, over <-chan error) error {
	t.Helper()
	select {
	case err := <-over:
		return err
	case <-time.After(patience):
		t.Fatal("it does not end")
		return nil
	}
}

// Many filters, each of which takes its time, do not keep a turn: the worker goes on in the next one where it stood.
func TestJudgingIsBounded(t *testing.T) {
	const facts = feedBatch
	f := &feed{first: 1, last: facts, fact: facts}
	for n := range facts {
		f.items = append(f.items, &item{sequence: uint64(n + 1)})
	}
	judged := 0
	w := &worker{feed: f, record: &record{}, wanted: func(i *item) (bool, error) {
		if judged++; i.sequence != uint64(judged) {
			t.Errorf("%d as number %d", i.sequence, judged)
		}
		for over := time.Now().Add(judging / 4); time.Now().Before(over); { // a filter that has much to compute
			continue
		}
		return false, nil
	}}
	room := make([]*item, 0, feedBatch)
	turns := 0
	for more := true; more && turns < facts; turns++ {
		before := judged
		if more = w.takeNew(room); judged-before > 8 || w.status().Read != uint64(judged) {
			t.Fatalf("%d in one turn, up to %d of %d", judged-before, w.status().Read, judged)
		}
	}
	if judged != facts || turns < facts/8 {
		t.Errorf("%d of %d judged, in %d turns", judged, facts, turns)
	}
}

// That the state was written is noted also when an answer of the same turn ends the worker: it does not wait for that in vain, and
// writes that it is disabled.
func TestSavedAndGoneInOneTurn(t *testing.T) {
	w := newWorld(t)
	v := w.create(wanted("https://example.org/"))
	one, over := w.byHand(t.Context(), v, w.kept())
	l := &lane{name: "l", queue: []*attempt{{item: &item{sequence: 1}}}}
	one.inflight, one.saving = 1, true
	one.post(func(m *mail) { m.saved = &saved{} })
	one.post(func(m *mail) {
		m.results = append(m.results, result{lane: l, outcome: outcome{verdict: gone, reason: "410"}})
	})
	one.takeTurn(false, nil)
	if err := ended(t, over); !errors.Is(err, errDisabled) {
		t.Error(err)
	}
	if s := w.stated(v.ID); s.State != Disabled {
		t.Errorf("kept: %+v", s)
	}
}

// slowKV holds up the first change until it is released.
type slowKV struct {
	jetstream.KeyValue
	began, release chan struct{}
	once           sync.Once
}

func (s *slowKV) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	s.once.Do(func() { close(s.began); <-s.release })
	return s.KeyValue.Update(ctx, key, value, revision)
}

// What is under way when a worker ends is saved, also when an earlier state is only just being written.
func TestSlowSaveAtTheEnd(t *testing.T) {
	w := newWorld(t)
	v := w.create(wanted("https://example.org/"))
	kept := w.kept()
	slow := &slowKV{KeyValue: kept.kv, began: make(chan struct{}), release: make(chan struct{})}
	kept.kv = slow
	one, _ := w.byHand(t.Context(), v, kept)
	defer one.wake.Stop()
	defer one.stop()
	one.saveAt = time.Now()
	one.takeTurn(false, nil)
	<-slow.began
	one.mu.Lock()
	one.s.Delivered = 7
	one.mu.Unlock()
	came, grace, over := one.noTurns(), make(chan time.Time), make(chan error, 1)
	go func() { over <- one.finish(came, grace) }()
	grace <- time.Now() // it is over, and the save under way is waited for all the same
	close(slow.release)
	if err := ended(t, over); err != nil {
		t.Error(err)
	}
	if s := w.stated(v.ID); s.Delivered != 7 {
		t.Errorf("kept: %+v", s)
	}
}

// A turn that panics says why, and not that a lock is not held.
func TestPanicInATurn(t *testing.T) {
	all := &turns{}
	all.more = sync.NewCond(&all.mu)
	all.ask(&worker{}) // without a context
	defer func() {
		if err, is := recover().(runtime.Error); !is || !strings.Contains(err.Error(), "nil pointer") {
			t.Errorf("%v", err)
		}
	}()
	all.give()
}

// A worker whose state somebody else has written ends, and writes nothing: whether it hears of that in a turn or when it ends.
func TestFencedWorkerEnds(t *testing.T) {
	for name, inATurn := range map[string]bool{"in a turn": true, "at its end": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			v := w.create(wanted("https://example.org/"))
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			one, over := w.byHand(ctx, v, w.kept())
			other, _ := w.byHand(ctx, v, w.kept())
			other.s.Delivered = 9
			if err := other.save(ctx); err != nil {
				t.Fatal(err)
			}
			if inATurn {
				one.saveAt = time.Now()
				one.takeTurn(false, nil)
				w.until("its saving is over", func() bool {
					one.mail.mu.Lock()
					defer one.mail.mu.Unlock()
					return one.mail.saved != nil
				})
			} else {
				stop()
			}
			if more := one.takeTurn(false, nil); more || !one.ended {
				t.Error("it goes on")
			}
			if err := ended(t, over); !errors.Is(err, ErrConflict) {
				t.Error(err)
			}
			if _, told := one.feed.told[one]; told || one.sending.Err() == nil || one.takeTurn(false, nil) {
				t.Error("something of it is left")
			}
			if s := w.stated(v.ID); s.Delivered != 9 {
				t.Errorf("kept: %+v", s)
			}
		})
	}
}

// What a burst took is given back when all of it is settled.
func TestSettledTakesNoRoom(t *testing.T) {
	w := &worker{feed: &feed{}, record: &record{}}
	for n := range window {
		w.take(input{item: &item{sequence: uint64(n + 1), lane: fmt.Sprint(n)}, read: uint64(n + 1)})
	}
	if len(w.lanes) != window || w.status().Waiting != window {
		t.Fatalf("%d lanes, %d wait", len(w.lanes), w.status().Waiting)
	}
	for _, l := range w.ready {
		w.inflight++
		if err := w.settle(result{lane: l, outcome: outcome{verdict: delivered}}); err != nil {
			t.Fatal(err)
		}
	}
	if w.lanes != nil || w.open != nil || w.held != 0 || w.status().Waiting != 0 {
		t.Errorf("%d lanes, %d open, %d held", len(w.lanes), len(w.open), w.held)
	}
}

// What has not changed is saved seldom, what has soon; and those that began together do not save together.
func TestSavedWhenItChanged(t *testing.T) {
	const many = 20
	for name, test := range map[string]struct {
		change func(*worker)
		most   time.Duration
	}{
		"nothing":     {func(*worker) {}, saveIdle},
		"passed over": {func(w *worker) { w.take(input{read: 1}) }, saveRead},
		"settled":     {func(w *worker) { w.take(input{read: 1}); w.settledAt = true }, saveEvery},
	} {
		t.Run(name, func(t *testing.T) {
			met := map[time.Duration]bool{}
			for range many {
				w := &worker{feed: &feed{}, record: &record{}, saving: true}
				if err := w.wrote(&saved{}); err != nil {
					t.Fatal(err)
				}
				test.change(w)
				rest := w.saveSoon()
				if rest > test.most || rest < test.most/2 || w.saving {
					t.Errorf("it is saved in %s", rest)
				}
				met[rest.Round(test.most/100)] = true
			}
			if len(met) < 3 {
				t.Errorf("all %d save at %v", many, met)
			}
		})
	}
}

// Whoever is told of a fact is told once, also while the reader of the stream goes on; what is told waits for nobody who reads the feed.
func TestFactsAreToldBesideTheFeed(t *testing.T) {
	const workers = 40
	all := &turns{}
	all.more = sync.NewCond(&all.mu)
	f := &feed{told: map[*worker]struct{}{}, turns: all}
	for range workers {
		f.add(&worker{})
	}
	all.mu.Lock() // somebody holds up those who tell
	var telling sync.WaitGroup
	telling.Go(func() { f.take(&item{sequence: 7}) })
	until(t, func() bool {
		if !f.mu.TryLock() {
			return false
		}
		defer f.mu.Unlock()
		return f.fact == 7
	})
	if len(all.waiting) != 0 {
		t.Errorf("%d wait for a turn already", len(all.waiting))
	}
	all.mu.Unlock()
	telling.Wait()
	if len(all.waiting) != workers {
		t.Errorf("%d of %d wait for a turn", len(all.waiting), workers)
	}
	since := all.waiting[0].turn.since
	for _, w := range all.waiting {
		if !w.turn.since.Equal(since) {
			t.Error("the clock is read more than once")
			break
		}
	}
	f.take(&item{sequence: 8})
	if len(all.waiting) != workers {
		t.Errorf("%d wait, some twice", len(all.waiting))
	}
}

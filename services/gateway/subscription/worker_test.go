package subscription

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Whoever looks at a subscription while its worker takes up what was left open sees all of it, or nothing yet.
func TestLookedAtWhileItStarts(t *testing.T) {
	const left = 400
	w := newWorld(t)
	m := w.manager
	for range 20 {
		one := &worker{manager: m, feed: &feed{}, record: &record{Generation: 1}}
		one.s.State, one.s.Generation = Active, 1
		for i := range left {
			one.s.Open = append(one.s.Open, unsettled{Sequence: uint64(i + 1), Tries: 1, Since: time.Now()})
		}
		one.record.Spec.ID = "looked-at"
		m.mu.Lock()
		m.working[one.record.Spec.ID] = one
		m.mu.Unlock()
		started := make(chan struct{})
		var both sync.WaitGroup
		both.Go(func() { defer close(started); one.reopen() })
		both.Go(func() {
			for looking := true; looking; {
				select {
				case <-started:
					looking = false
				default:
				}
				if v := m.view(t.Context(), *one.record, state{}); v.Status.Waiting != left {
					t.Errorf("%d of %d wait", v.Status.Waiting, left)
					return
				}
			}
		})
		both.Wait()
	}
}

// A subscription that has nothing to send has no goroutine.
func TestWaitingSubscriptionsHaveNoGoroutine(t *testing.T) {
	const subscriptions = 20
	w := newWorld(t)
	w.run(w.manager)
	sink := newReceiver(t, nil)
	for range subscriptions {
		w.create(wanted(sink.URL))
	}
	w.state("shop", "1", "one")
	w.until("delivered", func() bool { return len(sink.taken()) == subscriptions })
	w.until("no goroutine is left", func() bool {
		stacks := make([]byte, 4<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return !bytes.Contains(stacks, []byte("subscription.(*worker)")) && !bytes.Contains(stacks, []byte("subscription.(*keeper)"))
	})
	w.state("shop", "1", "two")
	w.until("delivered again", func() bool { return len(sink.taken()) == 2*subscriptions })
}

// stored is a fact as it stands on the stream.
func stored(t *testing.T, sequence uint64, key string) *item {
	t.Helper()
	e := events.New("shop", key, events.TicketCreated{Ticket: events.Ticket{Summary: "one", Creator: "ann", URI: "https://example.org/" + key}})
	e.Source, e.Chain, e.Aggregate, e.ID = "/test", "chain-"+key, "item", key
	m, err := events.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	return newItem(sequence, time.Now(), e.Subject(events.Stated), m.Header, m.Data)
}

// A worker that has ended is held by nothing, however long a receiver asked to be left alone: each change of a subscription makes
// another one.
func TestEndedWorkerIsForgotten(t *testing.T) {
	w := newWorld(t)
	v := w.create(wanted("https://example.org/"))
	forgotten := make(chan struct{})
	func() {
		ctx, stop := context.WithCancel(t.Context())
		one, over := w.byHand(ctx, v, w.kept())
		one.take(input{item: stored(t, 1, "k"), read: 1})
		l := one.ready[0]
		one.ready, one.inflight = nil, 1
		one.post(func(m *mail) {
			m.results = append(m.results, result{lane: l, outcome: outcome{verdict: again, reason: "503", after: time.Hour, whole: true}})
		})
		one.takeTurn(false, nil)
		if s := one.status(); s.Retried != 1 || s.Waiting != 1 {
			t.Errorf("%+v", s)
		}
		runtime.AddCleanup(l, func(c chan struct{}) { close(c) }, forgotten)
		stop()
		one.takeTurn(false, nil)
		if err := ended(t, over); err != nil {
			t.Error(err)
		}
	}()
	w.until("it is collected", func() bool {
		runtime.GC()
		select {
		case <-forgotten:
			return true
		default:
			return false
		}
	})
}

// What is to be tried again is, in the order of when it is due; a receiver is left alone for as long as it asked for, whatever it answers
// meanwhile to what was under way.
func TestLater(t *testing.T) {
	w := &worker{feed: &feed{}, record: &record{}, patience: quick}
	began := time.Now()
	for n, after := range []time.Duration{3 * time.Hour, time.Hour, 2 * time.Hour} {
		i := stored(t, uint64(n+1), after.String())
		w.take(input{item: i, read: i.sequence})
		l := w.lanes[i.lane]
		if err := w.settle(result{lane: l, outcome: outcome{verdict: again, after: after, whole: true}}); err != nil {
			t.Fatal(err)
		}
	}
	w.ready = nil
	if quiet := w.quiet.Sub(began); quiet < 3*time.Hour || quiet > 4*time.Hour {
		t.Errorf("it is left alone for %s", quiet)
	}
	for n, want := range []string{"1h0m0s", "2h0m0s", "3h0m0s"} {
		w.takeDue(began.Add(time.Duration(n+1)*time.Hour + 30*time.Minute))
		if len(w.ready) != n+1 || w.ready[n].queue[0].item.attributes["key"] != want || len(w.later) != 2-n {
			t.Fatalf("after %d h: %d ready, %d later", n+1, len(w.ready), len(w.later))
		}
	}
	if w.later != nil {
		t.Error("it keeps room for nothing")
	}
}

// A receiver whose answer's header is there at once and whose body is not holds a turn once, and is not taken for one that answers at once.
func TestHeldTurnIsNoPromptAnswer(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	sink := newReceiver(t, nil)
	held := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Header.Get("Ce-Key") == "" { // it only warms up
			return
		}
		rw.Header().Set("Content-Length", "2")
		rw.WriteHeader(http.StatusOK)
		rw.(http.Flusher).Flush()
		<-release
	}))
	t.Cleanup(func() { close(release); held.Close() })
	ctx, stop := context.WithCancel(t.Context())
	one, over := w.byHand(ctx, w.create(wanted(sink.URL)), w.kept())
	one.record.Spec.Sink = held.URL
	if err := one.prepare(); err != nil {
		t.Fatal(err)
	}
	if _, err := post(t, one.clients, held.URL, "hello"); err != nil {
		t.Fatal(err)
	}
	one.prompt, one.patience.Parallel = true, 1
	one.take(input{item: stored(t, 1, "k"), read: 1})
	one.launch(false)
	w.until("it is delivered", func() bool { // in this turn, or else in a later one
		results, _ := one.opened()
		for _, r := range results {
			if err := one.settle(r); err != nil || r.outcome.verdict != delivered {
				t.Fatalf("%+v, %v", r.outcome, err)
			}
		}
		return one.status().Delivered == 1
	})
	if one.prompt {
		t.Error("it passes for one that answers at once")
	}
	stop()
	one.takeTurn(false, nil)
	if err := ended(t, over); err != nil {
		t.Error(err)
	}
}

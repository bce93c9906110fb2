package subscription

import (
	"bytes"
	"runtime"
	"sync"
	"testing"
	"time"
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

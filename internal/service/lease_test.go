package service

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// watchLease follows a phase's lease from its present holding on.
func watchLease(t *testing.T, b *bus, phase events.Phase) func() holding {
	t.Helper()
	kv, err := b.js.KeyValue(t.Context(), leaseBucket)
	if err != nil {
		t.Fatal(err)
	}
	w, err := kv.Watch(t.Context(), string(phase))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Stop() })
	return func() holding {
		t.Helper()
		for {
			select {
			case entry := <-w.Updates():
				if entry == nil {
					continue // all that was there has been seen
				}
				var h holding
				if err := json.Unmarshal(entry.Value(), &h); err != nil {
					t.Fatal(err)
				}
				return h
			case <-time.After(patience):
				t.Fatal("the lease stands still")
			}
		}
	}
}

// gate is closed until open is called, which may happen twice.
func gate(t *testing.T) (passed <-chan struct{}, open func()) {
	t.Helper()
	c := make(chan struct{})
	return c, sync.OnceFunc(func() { close(c) })
}

// expectHeld waits for n renewals by one owner.
func expectHeld(t *testing.T, next func() holding, n int) {
	t.Helper()
	owner := next().Owner
	for range n {
		if h := next(); h.Owner != owner {
			t.Fatalf("the lease went from %q to %q", owner, h.Owner)
		}
	}
}

func TestTheLeaseIsHeldWhileFoldsLoad(t *testing.T) {
	b := newBus(t)
	b.host.Timing = Timing{Lease: 300 * time.Millisecond}
	_, stop := running(t, b.host, proofDefinition())
	if err := b.claim("shop", "a", ticket("a"), "a"); err != nil {
		t.Fatal(err)
	}
	awaitEvent(t, b.js, "a fact to fold", "lifecycle.shop.plan.*.*.*", func(e events.Event) bool { return e.Cause == "a" })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.folds.Client().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}

	loading := make(chan struct{}, 1)
	goOn, letOn := gate(t)
	slow := itemRules()
	evolve := slow.Evolve
	slow.Evolve = func(s itemState, f events.Event) itemState {
		select {
		case loading <- struct{}{}:
		default:
		}
		<-goOn
		return evolve(s, f)
	}
	ctx, cancel := context.WithCancel(t.Context())
	loader, ended := New(b.host, Definition{Phase: events.Plan, Aggregates: []Aggregate{Of(slow), Of(boardRules())}}), make(chan error, 1)
	go func() { ended <- loader.Run(ctx) }()
	t.Cleanup(func() { letOn(); cancel(); <-ended })
	<-loading
	standby, _ := running(t, b.host, proofDefinition())
	expectHeld(t, watchLease(t, b, events.Plan), 7)
	letOn()
	awaitOwner(t, loader)
	if standby.Owns() {
		t.Error("two processes own the phase")
	}
}

// An owner that is cut off from the bus stops by its own clock: another may be at work by then.
func TestAnOwnerThatCanNotRenewStepsDown(t *testing.T) {
	const ttl = 300 * time.Millisecond
	for name, start := range map[string]func(t *testing.T, h Host, do func(context.Context) error){
		"a duty": func(t *testing.T, h Host, do func(context.Context) error) {
			_, _ = running(t, h, Definition{Phase: events.Plan, Duties: []Duty{{Name: "watch", Run: func(ctx context.Context, _ *Reporter) error { return do(ctx) }}}})
		},
		"what holds a lease of its own": func(t *testing.T, h Host, do func(context.Context) error) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- WhileOwner(ctx, h, "one", do) }()
			t.Cleanup(func() { cancel(); <-ended })
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBus(t)
			b.host.Timing = Timing{Lease: ttl}
			began, stopped := make(chan struct{}), make(chan struct{})
			start(t, b.host, func(ctx context.Context) error {
				close(began)
				<-ctx.Done()
				close(stopped)
				return nil
			})
			<-began
			b.server.Stop()
			select {
			case <-stopped:
			case <-time.After(10 * ttl):
				t.Error("still at work after ten times the lease's TTL")
			}
		})
	}
}

// A clean stop: the work that only the owner may do ends first. For as long as it takes, nobody else
// may take over, and decisions go on; then the lease is handed back at once.
func TestACleanStopHandsTheLeaseBack(t *testing.T) {
	b := newBus(t)
	b.host.Timing = Timing{Lease: 1500 * time.Millisecond}
	busy := make(chan struct{})
	goOn, letOn := gate(t)
	def := proofDefinition()
	def.Effects = []Effect{{Name: "hold", On: []events.Type{events.TypeOf(events.TicketCreated{})}, OnOwner: true, Do: func(ctx context.Context, j *Job) error {
		if j.Event.Key == "slow" {
			close(busy)
			<-ctx.Done()
			<-goOn
		}
		return nil
	}}}
	s, stop := running(t, b.host, def)
	t.Cleanup(letOn) // before the service is waited for
	awaitOwner(t, s)
	if err := b.claim("shop", "slow", ticket("slow"), "slow"); err != nil {
		t.Fatal(err)
	}
	<-busy
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	next := watchLease(t, b, events.Plan)
	expectHeld(t, next, 4)
	if err := b.claim("shop", "late", ticket("late"), "late"); err != nil {
		t.Fatal(err)
	}
	awaitEvent(t, b.js, "a decision during the drain", "lifecycle.shop.plan.*.*.*", func(e events.Event) bool { return e.Cause == "late" })

	released := time.Now()
	letOn()
	for h := next(); h.Owner != ""; h = next() {
		t.Log("renewed once more at", h.Floor)
	}
	if took := time.Since(released); took > 500*time.Millisecond {
		t.Errorf("handing the lease back took %s", took)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What a duty reports is for the phase that it names, or for its own.
func TestADutyReportsToAPhase(t *testing.T) {
	b := newBus(t)
	done := make(chan error, 1)
	_, _ = running(t, b.host, Definition{Phase: events.Develop, Duties: []Duty{{Name: "look", Run: func(ctx context.Context, r *Reporter) error {
		err := r.Report(ctx, "shop", "", "1", Report{Content: events.ChangeAbandoned{}, Key: "7"})
		done <- errors.Join(err, r.Report(ctx, "shop", "", "1", Report{Content: events.ChangeMerged{}, Key: "7", Phase: events.Integrate}))
		<-ctx.Done()
		return nil
	}}}})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	awaitEvent(t, b.js, "the change's end", "results.shop.develop.>", func(e events.Event) bool { return e.Phase == events.Develop && e.Key == "7" })
	awaitEvent(t, b.js, "the merge", "results.shop.integrate.>", func(e events.Event) bool {
		_, merged := e.Content.(events.ChangeMerged)
		return merged && e.Phase == events.Integrate
	})
}

package bench

import (
	"context"
	"errors"
	"os"
	"runtime/debug"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

const (
	rebuildFacts  = 1_000_000 // of a tenth as many aggregates
	rebuildRounds = 3
)

// BenchmarkRebuild measures how long an owner without saved folds takes until it decides, against a plain ordered replay
// that decodes the same facts; then how long the next one takes, that finds the folds saved.
func BenchmarkRebuild(b *testing.B) {
	const facts = rebuildFacts
	bus := embedded(b, false)
	bus.publish(b, facts, func(i int) *nats.Msg {
		e := ticket(i, facts/10)
		e.Aggregate, e.Cause, e.CauseSequence = "item", e.ID, uint64(i+1)
		e.ID = events.FactID(bus.host.Stream, e.CauseSequence, e.Aggregate, e.Project, e.Key, e.Type)
		e.Links = []events.Link{{Type: events.Path, Context: e.Cause}}
		return encoded(e, events.Stated)
	})
	// A cause behind them lets the floor, and with it the position of what is saved, pass them all.
	bus.publish(b, 1, func(int) *nats.Msg { return encoded(ticket(facts, facts/10), events.Claim) })
	_, stop := bus.run(b)
	bus.awaitEnd(b, uint64(facts)+3) // the claim, whose phase it is, the answer
	stop()
	var plain, cold, warm, grown []float64
	b.ResetTimer()
	for range b.N {
		for range rebuildRounds {
			plain = append(plain, replay(b, bus, facts))
			empty, err := fold.Embedded("")
			if err != nil {
				b.Fatal(err)
			}
			bus.host.Folds = empty
			debug.FreeOSMemory()
			before, highest := residentMiB(b, os.Getpid()), watchMemory(b)
			cold = append(cold, started(b, bus, func() { awaitSaved(b, empty) }))
			grown = append(grown, highest()-before)
			warm = append(warm, started(b, bus, func() {}))
			_ = empty.Close()
		}
	}
	b.ReportMetric(median(cold)/median(plain), "ratio")
	b.ReportMetric(median(cold), "s")
	b.ReportMetric(median(plain), "plain-s")
	b.ReportMetric(median(warm), "warm-s")
	b.ReportMetric(median(grown), "MiB")
	b.ReportMetric(facts, "events")
	b.ReportMetric(0, "ns/op")
}

// replay is the yardstick, in seconds.
func replay(b *testing.B, bus testBus, facts int) float64 {
	b.Helper()
	began, n := time.Now(), 0
	err := service.Tail(b.Context(), bus.host, []string{"lifecycle.*.plan.*.*.*"}, 1, func(m service.Message) error {
		if _, err := m.Event(); err != nil {
			return err
		}
		if n++; n == facts {
			return service.ErrStop
		}
		return nil
	})
	if err != nil && !errors.Is(err, service.ErrStop) {
		b.Fatal(err)
	}
	return time.Since(began).Seconds()
}

// started runs the service until it decides, which is measured, in seconds, and then until while returns.
func started(b *testing.B, bus testBus, while func()) float64 {
	b.Helper()
	began := time.Now()
	s, stop := bus.run(b)
	defer stop()
	for !s.Owns() {
		select {
		case <-s.Ready():
		case <-time.After(time.Millisecond):
		}
	}
	took := time.Since(began).Seconds()
	while()
	return took
}

// awaitSaved waits until the store holds all folds: then it holds their position too.
func awaitSaved(b *testing.B, folds *fold.Store) {
	b.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		keys, err := folds.Client().Keys(b.Context(), "*complete/*").Result()
		switch {
		case err != nil:
			b.Fatal(err)
		case len(keys) > 0:
			return
		case time.Now().After(deadline):
			b.Fatal("the folds are not saved")
		}
	}
}

// watchMemory notes the most memory that this process holds until the returned function is called; in MiB. The server is
// in this process too, with all that it keeps in memory for its readers.
func watchMemory(b *testing.B) (highest func() float64) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	most := make(chan float64)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		high := 0.0
		for {
			select {
			case <-ctx.Done():
				most <- high
				return
			case <-tick.C:
				high = max(high, residentMiB(b, os.Getpid()))
			}
		}
	}()
	return func() float64 { cancel(); return <-most }
}

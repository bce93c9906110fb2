package integration_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/backup"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway"
)

// The stream of a lap is purged up to its snapshots: folded again in an empty store, also from a backup of it, all services'
// folds are equal to those before, and it goes on.
func TestFoldsOfAPurgedStream(t *testing.T) {
	host := busIn(t, t.TempDir())
	host.Timing.Snapshot = 50 * time.Millisecond
	replay(t, host, "testdata/recorded/0.1.jsonl.gz")
	if err := natsd.SetRetain(t.Context(), host.JS, time.Hour); err != nil {
		t.Fatal(err)
	}
	stop, stopGateway := deciders(t, host), gatewayOn(t, host)
	end := answered(t, host)
	names := []string{"gateway"}
	for _, phase := range events.Phases() {
		names = append(names, string(phase))
	}
	var p service.Purge
	for deadline := time.Now().Add(time.Minute); p.UpTo < end-1; {
		if time.Now().After(deadline) {
			t.Fatalf("only up to %d of %d: %s", p.UpTo, end, p.HeldBy)
		}
		answered(t, host) // snapshots follow only what is new
		var err error
		if p, err = service.PlanPurge(t.Context(), host, 0, names); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	stopGateway()
	want := folds(t, host)
	if err := p.Do(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	still := filepath.Join(t.TempDir(), "purged.tar")
	if _, err := backup.Create(t.Context(), backup.Source{Conn: host.Conn, Version: "test"}, still); err != nil {
		t.Fatal(err)
	}
	same := func(host service.Host) {
		t.Helper()
		if err := host.Folds.Client().FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		deciders(t, host)()
		got, values := folds(t, host), 0
		for partition, saved := range want {
			for field, value := range saved {
				values++
				if got[partition][field] != value {
					t.Errorf("%s %s is %q, was %q", partition, field, got[partition][field], value)
				}
			}
		}
		if len(got) != len(want) || len(want) < 20 {
			t.Errorf("%d partitions, want %d", len(got), len(want))
		}
		t.Logf("events up to %d are gone; %d values in %d partitions are the same", p.UpTo, values, len(want))
	}
	same(host)
	rest := restored(t, still, places(t)["embedded"](t))
	same(rest)
	defer deciders(t, rest)()
	going, enough := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer enough()
	if n := claimTickets(going, t, rest, "U"); n == 0 {
		t.Error("nothing was claimed")
	}
	answered(t, rest)
}

// gatewayOn runs a gateway without a door, until the returned func is called.
func gatewayOn(t *testing.T, host service.Host) (stop func()) {
	t.Helper()
	g, err := gateway.New(gateway.Options{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := g.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return func() { cancel(); running.Wait() }
}

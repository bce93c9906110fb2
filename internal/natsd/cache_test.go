package natsd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
)

// Where there is no CACHE a service's key does not wait for what it may not make, at each of its starts; whoever may makes it.
func TestAServiceDoesNotWaitForTheCache(t *testing.T) {
	c := startClosed(t)
	if err := c.service.DeleteStream(t.Context(), natsd.Cache); err != nil {
		t.Fatal(err)
	}
	_, planner := c.as("planner")
	began := time.Now()
	ensure(t, planner, 1)
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
	if _, err := planner.Stream(t.Context(), natsd.Cache); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("there is one: %v", err)
	}
	ensure(t, c.service, 1)
	if _, err := planner.Stream(t.Context(), natsd.Cache); err != nil {
		t.Errorf("it is not made again: %v", err)
	}
}

// A CACHE that is not up to date keeps no service from starting whose key may not change it; whoever may does.
func TestAnOldCacheHoldsUpNoService(t *testing.T) {
	c := startClosed(t)
	st, err := c.service.Stream(t.Context(), natsd.Cache)
	if err != nil {
		t.Fatal(err)
	}
	now := st.CachedInfo().Config
	old := now
	old.Description, old.Duplicates = "of another version", time.Minute
	if _, err := c.service.UpdateStream(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	_, planner := c.as("planner")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := natsd.EnsureStreams(ctx, planner, 1); err != nil {
		t.Error(err)
	}
	ensure(t, c.service, 1)
	if info, err := st.Info(t.Context()); err != nil || info.Config.Description != now.Description || info.Config.Duplicates != now.Duplicates {
		t.Errorf("%+v, %v", info, err)
	}
}

// roomy starts a server whose store holds so much.
func roomy(t *testing.T, bytes int64) jetstream.JetStream {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: bytes,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	_, js := connect(t, func(o ...nats.Option) (*nats.Conn, error) { return nats.Connect(s.ClientURL(), o...) })
	return js
}

// However large the store, there is room for the inboxes of some principals and for webhooks beside CACHE and LOGS, and what was
// tried for them is given back.
func TestRoomBesideCache(t *testing.T) {
	const mib = int64(1 << 20)
	for _, test := range []struct {
		store, logs, cache int64 // MiB
		principals         int   // at the least
		before             bool  // all but CACHE is there already
	}{
		{1075, 128, 0, 2, false},
		{1126, 128, 0, 2, false},
		{1843, 256, 0, 4, false},
		{4500, 512, 2048, 4, false},
		{6450, 4096, 512, 4, false},
		{6450, 4096, 512, 4, true},
		{9000, 4096, 2048, 4, false},
	} {
		t.Run(fmt.Sprintf("%d MiB, %t", test.store, test.before), func(t *testing.T) {
			js := roomy(t, test.store*mib)
			if test.before {
				ensure(t, js, 1)
				if err := js.DeleteStream(t.Context(), natsd.Cache); err != nil {
					t.Fatal(err)
				}
			}
			ensure(t, js, 1)
			ensure(t, js, 1) // changes nothing
			for name, want := range map[string]int64{natsd.Logs: test.logs, natsd.Cache: test.cache} {
				st, err := js.Stream(t.Context(), name)
				switch {
				case want == 0 && errors.Is(err, jetstream.ErrStreamNotFound):
				case err != nil:
					t.Errorf("%s: %v", name, err)
				case st.CachedInfo().Config.MaxBytes != want*mib:
					t.Errorf("%s holds %d MiB, want %d", name, st.CachedInfo().Config.MaxBytes/mib, want)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for n := range test.principals {
				if err := natsd.EnsureSubmit(ctx, js, fmt.Sprintf("p%d", n), 1); err != nil {
					t.Fatalf("principal %d: %v", n, err)
				}
			}
			if err := natsd.EnsureStream(ctx, js, jetstream.StreamConfig{Name: "WEBHOOKS", Subjects: []string{"webhooks.>"}, MaxBytes: 64 << 20}); err != nil {
				t.Error(err)
			}
		})
	}
}

// What whoever made LOGS and CACHE tried, and died before giving it back, the next one to start gives back, as long as its key may; a
// size that an operator has set stays.
func TestRoomIsGivenBackAfterACrash(t *testing.T) {
	const mib = int64(1 << 20)
	for _, test := range []struct {
		name       string
		left, want int64
	}{
		{"all and something to spare", 4096*mib + 1280*mib + 1, 4096 * mib},
		{"a half", 2048*mib + 1, 512 * mib},
		{"the least", 64*mib + 1, 64 * mib},
		{"an operator's", 2048 * mib, 2048 * mib},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := startClosed(t)
			st, err := c.service.Stream(t.Context(), natsd.Logs)
			if err != nil {
				t.Fatal(err)
			}
			left := st.CachedInfo().Config
			left.MaxBytes = test.left
			if _, err := c.service.UpdateStream(t.Context(), left); err != nil {
				t.Fatal(err)
			}
			_, planner := c.as("planner")
			ensure(t, planner, 1) // may not, and is not kept from starting
			ensure(t, c.service, 1)
			if info, err := st.Info(t.Context()); err != nil || info.Config.MaxBytes != test.want {
				t.Errorf("%d MiB, want %d: %v", info.Config.MaxBytes/mib, test.want/mib, err)
			}
		})
	}
}

// Where there is no CACHE whoever could not make it says why.
func TestWhyThereIsNoCache(t *testing.T) {
	js := roomy(t, 1<<30)
	var told []error
	if _, err := natsd.EnsureStreamsTold(t.Context(), js, 1, func(err error) { told = append(told, err) }); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || !strings.Contains(told[0].Error(), "insufficient storage") || !strings.Contains(told[0].Error(), natsd.Cache) {
		t.Errorf("told %v", told)
	}
}

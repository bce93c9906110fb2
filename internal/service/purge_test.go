package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"pgregory.net/rapid"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// archive is all that a stream ever held, for the oracle.
type archive struct {
	mu     sync.Mutex
	all    []Message
	seen   uint64
	purges atomic.Int64
	gone   atomic.Uint64
}

// keepAll has old events go, and keeps them for the oracle.
func (b *bus) keepAll(t *testing.T) {
	t.Helper()
	if err := natsd.SetRetain(t.Context(), b.js, time.Nanosecond); err != nil {
		t.Fatal(err)
	}
	b.archive = &archive{}
	ctx, stop := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	reading.Go(func() {
		_ = tail(ctx, b.js, zap.NewNop(), nil, 1, func(m Message) error {
			b.archive.mu.Lock()
			defer b.archive.mu.Unlock()
			b.archive.all, b.archive.seen = append(b.archive.all, m), m.Sequence
			return nil
		})
	})
	t.Cleanup(func() { stop(); reading.Wait() })
}

func (a *archive) read(ctx context.Context, js jetstream.JetStream, project string, walk func(Message) error) error {
	end, err := lastSequence(ctx, js)
	if err != nil {
		return err
	}
	for {
		a.mu.Lock()
		seen, all := a.seen, a.all
		a.mu.Unlock()
		if seen < end {
			if wait(ctx, time.Millisecond); ctx.Err() != nil {
				return ctx.Err()
			}
			continue
		}
		var of []Message
		for _, m := range all {
			if token(m.Subject(), 1) == project {
				of = append(of, m)
			}
		}
		for i, m := range of {
			m.Pending = uint64(len(of) - 1 - i)
			if err := walk(m); err != nil && !errors.Is(err, errStop) {
				return err
			}
		}
		return nil
	}
}

// purge has what may go go, and wipes the store.
func (b *bus) purge(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		p, err := PlanPurge(ctx, b.host, 0, []string{string(events.Plan)})
		b.archive.mu.Lock()
		seen := b.archive.seen
		b.archive.mu.Unlock()
		if err == nil && p.UpTo >= p.First && p.UpTo <= seen {
			if err := p.Do(ctx, b.host); err != nil {
				t.Fatal(err)
			}
			b.archive.purges.Add(1)
			b.archive.gone.Store(p.UpTo)
			break
		}
		wait(ctx, 5*time.Millisecond) // for the next snapshot
	}
	if err := b.folds.Client().FlushAll(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
}

// The proof holds for a stream whose beginning is purged up to a snapshot, again and again, each time with the store wiped.
func TestFactsExactlyOncePurged(t *testing.T) {
	t.Run("histories", func(t *testing.T) {
		for _, lane := range []string{"0", "1"} {
			t.Run(lane, func(t *testing.T) {
				t.Parallel()
				b := newBus(t)
				b.keepAll(t)
				played := 0
				rapid.Check(t, func(rt *rapid.T) {
					tr := drawTrouble(rt)
					tr.Purges = rapid.IntRange(1, 3).Draw(rt, "purges")
					tr.Resends = 0 // an original that is gone can not be sent again
					played++
					diff, got, _ := live(t, b, tr, breakNothing, 60*time.Second)
					if diff != "" {
						rt.Fatalf("%+v\n%s", tr, diff)
					}
					diff, want, _ := live(t, b, tr.undisturbed(), breakNothing, 60*time.Second)
					if diff != "" {
						rt.Fatalf("undisturbed %+v\n%s", tr, diff)
					}
					if !slices.Equal(got, want) {
						rt.Fatalf("%+v\ndisturbed   %s\nundisturbed %s", tr, strings.Join(got, "\n"), strings.Join(want, "\n"))
					}
				})
				t.Logf("%d histories, %d purges, the last up to %d", played, b.archive.purges.Load(), b.archive.gone.Load())
				if b.archive.purges.Load() == 0 { // a slow machine has its snapshots late, and so fewer purges
					t.Errorf("no purge in %d histories", played)
				}
			})
		}
	})
}

// Without a snapshot that reaches the first event nobody decides: a phase that began with nothing would state everything anew.
func TestNobodyDecidesBehindAGap(t *testing.T) {
	b := newBus(t)
	for i := range 8 {
		mustClaim(t, b, fmt.Sprint("c", i), ticket("x"), fmt.Sprint("k", i))
	}
	stream, err := b.js.Stream(t.Context(), natsd.Lifecycle)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(5)); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 100)
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), writerFunc(func(p []byte) { said <- string(p) }), zap.WarnLevel))
	host := b.host
	host.Log = log
	s := New(host, proofDefinition())
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	for deadline := time.After(20 * time.Second); ; {
		select {
		case line := <-said:
			if !strings.Contains(line, "no snapshot of plan that reaches there can be used") {
				continue
			}
		case <-deadline:
			t.Fatal("nobody says that the beginning is missing")
		}
		break
	}
	if s.Owns() {
		t.Error("it decides")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n, err := pendingFor(t.Context(), b.js, []string{"lifecycle.>"}, 1); err != nil || n > 0 {
		t.Errorf("%d facts were stated, %v", n, err)
	}
}

// writerFunc takes what a log writes.
type writerFunc func([]byte)

func (w writerFunc) Write(p []byte) (int, error) { w(p); return len(p), nil }
func (writerFunc) Sync() error                   { return nil }

// What a snapshot holds of another version of a fold can not be understood, and its events are gone.
func TestSnapshotOfAnotherVersion(t *testing.T) {
	s := New(Host{Stream: "stream", Log: testLog()}, proofDefinition())
	tm := s.newTerm(&lease{})
	base := &kept{Kinds: tm.versions()}
	if _, err := tm.partitionsOf(base); err != nil {
		t.Fatal(err)
	}
	base.Kinds["item"]++
	if _, err := tm.partitionsOf(base); err == nil || !strings.Contains(err.Error(), "of item, this program understands") {
		t.Errorf("%v", err)
	}
}

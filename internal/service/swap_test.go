package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lemnis/lemnis/pkg/events"
)

// keep is what a store holds.
type keep struct {
	strings map[string]string
	hashes  map[string]map[string]string
	sets    map[string][]any
}

// swap puts another content in the place of the store's, as if its users went on with another Redis, and returns what it held.
func (b *bus) swap(t *testing.T, by keep) (held keep) {
	t.Helper()
	ctx, c := context.Background(), b.folds.Client()
	keys, err := c.Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	strings, hashes, sets := map[string]*redis.StringCmd{}, map[string]*redis.MapStringStringCmd{}, map[string]*redis.StringSliceCmd{}
	kinds := map[string]*redis.StatusCmd{}
	if _, err = c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, key := range keys {
			kinds[key] = p.Type(ctx, key)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// Positions first: a partition that is saved meanwhile stands later than they promise, never before.
	for _, kind := range []string{"string", "set", "hash"} {
		if _, err = c.Pipelined(ctx, func(p redis.Pipeliner) error {
			for key := range kinds {
				switch {
				case kinds[key].Val() != kind:
				case kind == "string":
					strings[key] = p.Get(ctx, key)
				case kind == "hash":
					hashes[key] = p.HGetAll(ctx, key)
				case kind == "set":
					sets[key] = p.SMembers(ctx, key)
				}
			}
			return nil
		}); err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
	}
	if _, err = c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.FlushAll(ctx)
		for key, value := range by.strings {
			p.Set(ctx, key, value, 0)
		}
		for key, fields := range by.hashes {
			p.HSet(ctx, key, fields)
		}
		for key, members := range by.sets {
			p.SAdd(ctx, key, members...)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	held = keep{strings: map[string]string{}, hashes: map[string]map[string]string{}, sets: map[string][]any{}}
	for key, v := range strings {
		if v.Err() == nil {
			held.strings[key] = v.Val()
		}
	}
	for key, v := range hashes {
		held.hashes[key] = v.Val()
	}
	for key, v := range sets {
		for _, m := range v.Val() {
			held.sets[key] = append(held.sets[key], m)
		}
	}
	return held
}

// An owner that goes on with a store that stands where it was left some time ago writes there what it lacks, so that the next owner
// loads all.
func TestAStoreThatIsBehindIsBroughtUpToDate(t *testing.T) {
	b := newBus(t)
	s, stop := running(t, b.host, proofDefinition())
	awaitOwner(t, s)
	of := New(b.host, proofDefinition()).newTerm(&lease{})
	saved := func(key string) {
		t.Helper()
		mustClaim(t, b, key, ticket(key), key)
		fact := awaitEvent(t, b.js, "the fact of "+key, "lifecycle.shop.plan.*.*.*", func(e events.Event) bool { return e.Cause == key })
		deadline := time.Now().Add(20 * time.Second)
		for ; ; wait(t.Context(), 5*time.Millisecond) {
			at, err := b.folds.Position(t.Context(), of.completeName())
			if err == nil && at >= fact.Sequence {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("saved up to %d, %v; the fact of %s is %d", at, err, key, fact.Sequence)
			}
		}
	}
	saved("a")
	behind := b.swap(t, keep{})
	b.swap(t, behind)
	saved("b")
	b.swap(t, behind)
	saved("c")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	loaded, err := b.folds.Load(t.Context(), of.scope())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b", "c"} {
		found := false
		for _, p := range loaded {
			found = found || p.Fields["item/"+key] != nil
		}
		if !found {
			t.Errorf("item/%s is not in the store", key)
		}
	}
}

// wiping is a store that is wiped right behind the first partitions that are saved.
type wiping struct {
	client *redis.Client
	done   chan struct{}
	once   sync.Once
}

func (w *wiping) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (w *wiping) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return w.behind(next) }

func (w *wiping) behind(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		w.look(ctx, cmd)
		return err
	}
}

func (w *wiping) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		w.look(ctx, cmds...)
		return err
	}
}

func (w *wiping) look(ctx context.Context, cmds ...redis.Cmder) {
	for _, c := range cmds {
		if n := c.Name(); c.Err() == nil && (n == "eval" || n == "evalsha") {
			w.once.Do(func() {
				_ = w.client.FlushAll(ctx).Err()
				close(w.done)
			})
		}
	}
}

// A store that is wiped in the middle of a save that writes everything does not pass for one that has everything: of what the stream
// has no more, only the snapshots know.
func TestAStoreThatIsWipedDuringASave(t *testing.T) {
	b := newBus(t)
	b.keepAll(t)
	b.host.Timing.Save, b.host.Timing.Snapshot = 200*time.Millisecond, 10*time.Millisecond
	_, stop := running(t, b.host, proofDefinition())
	mustClaim(t, b, "first", ticket("x"), "k1")
	first := awaitEvent(t, b.js, "the first fact", "lifecycle.shop.plan.*.*.*", func(e events.Event) bool { return e.Cause == "first" })
	for n := 0; b.archive.gone.Load() < first.Sequence; n++ { // two snapshots have to stand behind it
		if n == 50 {
			t.Fatal("the first fact does not go")
		}
		mustClaim(t, b, fmt.Sprint("more", n), ticket("x"), fmt.Sprint("m", n))
		expectFact(t, b, fmt.Sprint("more", n))
		wait(t.Context(), 3*b.host.Timing.Snapshot)
		if p, err := PlanPurge(t.Context(), b.host, 0, []string{string(events.Plan)}); err == nil && p.UpTo >= first.Sequence {
			b.purge(t)
		}
	}
	w := &wiping{client: b.folds.Client(), done: make(chan struct{})}
	b.folds.Client().AddHook(w)
	mustClaim(t, b, "second", ticket("x"), "k2")
	select {
	case <-w.done:
	case <-time.After(patience):
		t.Fatal("nothing was saved")
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s, _ := running(t, b.host, proofDefinition())
	awaitOwner(t, s)
	mustClaim(t, b, "again", ticket("x"), "k1")
	expectRefusal(t, b, "again", "")
}

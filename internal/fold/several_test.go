package fold_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/lemnis/lemnis/internal/fold"
)

// oneOf starts a Redis with a password, and returns its address too.
func oneOf(t *testing.T) (*miniredis.Miniredis, string) {
	t.Helper()
	m := miniredis.NewMiniRedis()
	m.RequireAuth("pass")
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m, "redis://:pass@" + m.Addr()
}

// Of two, one is used at a time, by all connections; when it ends, what goes on with the other loses nothing of its own, also
// where the other stands where it was left.
func TestSeveral(t *testing.T) {
	a, atA := oneOf(t)
	b, atB := oneOf(t)
	s, err := fold.Open(t.Context(), atA+","+atB)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	id := fold.PartitionID{Project: "shop", Partition: 3}
	save := func(n uint64) {
		t.Helper()
		all := content("item/1", fmt.Sprint(n))
		one := fold.Save{ID: id, Base: n - 1, Sequence: n, Changed: all, Whole: whole(all)}
		eventually(t, func() error { return s.Save(t.Context(), scope, []fold.Save{one}) })
		var loaded map[fold.PartitionID]fold.Partition
		eventually(t, func() (err error) { loaded, err = s.Load(t.Context(), scope); return err })
		if loaded[id].Sequence != n || string(loaded[id].Fields["item/1"]) != fmt.Sprint(n) {
			t.Fatalf("%+v", loaded)
		}
	}
	uses := func(used, other *miniredis.Miniredis, n int) {
		t.Helper()
		key := fmt.Sprintf("n%d", n)
		var all sync.WaitGroup
		for range 8 { // connections
			all.Go(func() {
				eventually(t, func() error { return s.Client().Incr(context.WithoutCancel(t.Context()), key).Err() })
			})
		}
		all.Wait()
		if got, err := used.Get(key); err != nil || got != "8" {
			t.Errorf("%s is %q, %v", key, got, err)
		}
		if other.Exists(key) {
			t.Errorf("%s is in the other too", key)
		}
	}
	save(1)
	uses(a, b, 1)
	a.Close()
	save(2)
	uses(b, a, 2)
	if err := a.Restart(); err != nil { // with what it held
		t.Fatal(err)
	}
	save(3)
	uses(b, a, 3)
	b.Close()
	save(4)
	uses(a, b, 4)
}

// One that takes connections and says nothing, or that it is loading, is passed over.
func TestSeveralPassesOver(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var talking sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); talking.Wait() })
	talking.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			if n > 0 {
				_, _ = c.Write([]byte("-LOADING Redis is loading the dataset in memory\r\n"))
			}
		}
	})
	b, atB := oneOf(t)
	for range 2 {
		s, err := fold.At("redis://:pass@" + l.Addr().String() + "," + atB)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error { return s.Reach(t.Context()) })
		if err := s.Client().Incr(t.Context(), "n").Err(); err != nil {
			t.Error(err)
		}
		closeStore(t, s)
	}
	if got, err := b.Get("n"); err != nil || got != "2" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSeveralRefuses(t *testing.T) {
	for _, addresses := range []string{"redis://:secret@a:1,redis://:other@b:1", "redis://a:1/0,redis://b:1/1", "redis://:secret@a:1,", "redis://:secret@a:1,nats://b:1"} {
		if s, err := fold.At(addresses); err == nil {
			t.Errorf("%s is taken", addresses)
			closeStore(t, s)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("it is quoted: %v", err)
		}
	}
}

// eventually repeats what fails while a Redis is left for another.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("it does not come back: %v", err)
			return
		}
	}
}

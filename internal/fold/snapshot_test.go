package fold_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lemnis/lemnis/internal/fold"
)

func openIn(t *testing.T, dir string, options ...fold.Option) *fold.Store {
	t.Helper()
	s, err := fold.Embedded(dir, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func fill(t *testing.T, s *fold.Store) {
	t.Helper()
	ctx := t.Context()
	_, err := s.Client().Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, "string", "a\x00\xffb", 0)
		p.Set(ctx, "expires", "later", time.Hour)
		p.HSet(ctx, "hash", "f", "1", "g", "")
		p.SAdd(ctx, "set", "x", "y")
		p.ZAdd(ctx, "sorted", redis.Z{Score: 1.5, Member: "m"}, redis.Z{Score: -2, Member: "n"})
		p.RPush(ctx, "list", "c", "b", "a")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	id := fold.PartitionID{Project: "shop", Partition: 5}
	if err := s.Save(ctx, scope, []fold.Save{{ID: id, Sequence: 9, Whole: whole(content("item/a", "1"))}}); err != nil {
		t.Fatal(err)
	}
}

// dump is the whole content as text.
func dump(t *testing.T, s *fold.Store) string {
	t.Helper()
	ctx, c := t.Context(), s.Client()
	loaded, err := s.Load(ctx, scope)
	if err != nil {
		t.Fatal(err)
	}
	ttl := c.TTL(ctx, "expires").Val() > 59*time.Minute
	return fmt.Sprintf("%q %q %v %v %v %v %v %v", c.Get(ctx, "string").Val(), c.Get(ctx, "expires").Val(), ttl,
		c.HGetAll(ctx, "hash").Val(), c.SMembers(ctx, "set").Val(), c.ZRangeWithScores(ctx, "sorted", 0, -1).Val(),
		c.LRange(ctx, "list", 0, -1).Val(), loaded)
}

func TestSnapshotAtClose(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	fill(t, s)
	want := dump(t, s)
	closeStore(t, s)
	closeStore(t, s) // a second time is nothing
	for range 2 {
		s = openIn(t, dir)
		if got := dump(t, s); got != want {
			t.Errorf("loaded\n%s\nwant\n%s", got, want)
		}
		closeStore(t, s)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("the folder holds %v", left)
	}
}

// As after a kill: what was written in time is there without a Close.
func TestSnapshotWhileRunning(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir, fold.WithInterval(10*time.Millisecond))
	fill(t, s)
	want := dump(t, s)
	deadline := time.Now().Add(5 * time.Second)
	for {
		data, err := os.ReadFile(filepath.Join(dir, fold.SnapshotFile))
		if err == nil {
			copied := t.TempDir()
			if err := os.WriteFile(filepath.Join(copied, fold.SnapshotFile), data, 0o600); err != nil {
				t.Fatal(err)
			}
			other := openIn(t, copied)
			if dump(t, other) == want {
				break
			}
			closeStore(t, other)
		}
		if time.Now().After(deadline) {
			t.Fatal("no snapshot of all")
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestBrokenSnapshotIsIgnored(t *testing.T) {
	dir := t.TempDir()
	s := openIn(t, dir)
	fill(t, s)
	closeStore(t, s)
	good, err := os.ReadFile(filepath.Join(dir, fold.SnapshotFile))
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte{}, good...)
	flipped[len(flipped)/2] ^= 1
	for name, data := range map[string][]byte{
		"empty":      {},
		"short":      good[:5],
		"cut":        good[:len(good)-7],
		"flipped":    flipped,
		"foreign":    []byte(strings.Repeat("something else ", 10)),
		"lengthened": append(append([]byte{}, good...), 0),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, fold.SnapshotFile), data, 0o600); err != nil {
				t.Fatal(err)
			}
			var logged []string
			s := openIn(t, dir, fold.WithLogger(func(f string, a ...any) { logged = append(logged, fmt.Sprintf(f, a...)) }))
			if n := s.Client().DBSize(t.Context()).Val(); n != 0 {
				t.Errorf("%d keys of a broken snapshot", n)
			}
			if len(logged) != 1 || !strings.Contains(logged[0], "is ignored") {
				t.Errorf("logged %q", logged)
			}
			fill(t, s)
			want := dump(t, s)
			closeStore(t, s)
			if got := dump(t, openIn(t, dir)); got != want {
				t.Errorf("after it was written anew: %s", got)
			}
		})
	}
}

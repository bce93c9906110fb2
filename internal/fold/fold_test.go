package fold_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/lemnis/lemnis/internal/fold"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var scope = fold.Scope{Stream: "a1b2", Phase: "plan", Version: "1"}

// stores opens both kinds of store; the test is run on each.
var stores = map[string]func(testing.TB) *fold.Store{"embedded": openEmbedded, "redis": openRedis}

func onEach(t *testing.T, run func(*testing.T, *fold.Store)) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) { run(t, open(t)) })
	}
}

func openEmbedded(t testing.TB) *fold.Store {
	s, err := fold.Embedded("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

func closeStore(t testing.TB, s *fold.Store) {
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// openRedis starts a Redis of its own, on a socket in a folder.
func openRedis(t testing.TB) *fold.Store {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("NOT PROVED on a real Redis: redis-server is not on the PATH; only the embedded store was tested")
	}
	dir, err := os.MkdirTemp("", "fold") //nolint:usetesting // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "r.sock")
	server := exec.Command(path, "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--appendonly", "no")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	deadline := time.Now().Add(10 * time.Second)
	for {
		if c, err := net.Dial("unix", socket); err == nil {
			_ = c.Close()
			if s, err := fold.Open(context.Background(), "unix://"+socket); err == nil {
				t.Cleanup(func() { closeStore(t, s) })
				return s
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("redis-server does not answer")
		}
		<-time.After(5 * time.Millisecond)
	}
}

func content(pairs ...string) map[string][]byte {
	m := map[string][]byte{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = []byte(pairs[i+1])
	}
	return m
}

func whole(m map[string][]byte) func() map[string][]byte {
	return func() map[string][]byte { return m }
}

func expect(t *testing.T, s *fold.Store, sc fold.Scope, want map[fold.PartitionID]fold.Partition) {
	t.Helper()
	got, err := s.Load(t.Context(), sc)
	if err != nil {
		t.Fatal(err)
	}
	equal := func(a, b fold.Partition) bool {
		return a.Sequence == b.Sequence && maps.EqualFunc(a.Fields, b.Fields, bytes.Equal)
	}
	if !maps.EqualFunc(got, want, equal) {
		t.Errorf("loaded %v, want %v", got, want)
	}
}

func TestSave(t *testing.T) {
	id := fold.PartitionID{Project: "shop", Partition: 7}
	at5 := fold.Save{ID: id, Sequence: 5, Whole: whole(content("item/a", "1", "item/b", "\x00\xff"))}
	for name, step := range map[string]struct {
		save  fold.Save
		older bool
		want  fold.Partition
	}{
		"changes onto the base": {
			save: fold.Save{ID: id, Base: 5, Sequence: 9, Changed: map[string][]byte{"item/a": []byte("2"), "item/b": nil, "item/c": {}}},
			want: fold.Partition{Sequence: 9, Fields: content("item/a", "2", "item/c", "")},
		},
		"another base": {
			save: fold.Save{ID: id, Base: 4, Sequence: 9, Changed: content("item/a", "2"), Whole: whole(content("item/a", "2", "item/d", "4"))},
			want: fold.Partition{Sequence: 9, Fields: content("item/a", "2", "item/d", "4")},
		},
		"no base": {
			save: fold.Save{ID: id, Sequence: 9, Changed: content("item/a", "2"), Whole: whole(content("item/d", "4"))},
			want: fold.Partition{Sequence: 9, Fields: content("item/d", "4")},
		},
		"an older whole": {
			save:  fold.Save{ID: id, Sequence: 4, Whole: whole(content("item/z", "0"))},
			older: true,
			want:  fold.Partition{Sequence: 5, Fields: at5.Whole()},
		},
		"older changes": {
			save:  fold.Save{ID: id, Base: 3, Sequence: 4, Changed: content("item/z", "0")},
			older: true,
			want:  fold.Partition{Sequence: 5, Fields: at5.Whole()},
		},
		"the same once more": {save: at5, want: fold.Partition{Sequence: 5, Fields: at5.Whole()}},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, s *fold.Store) {
				if err := s.Save(t.Context(), scope, []fold.Save{at5}); err != nil {
					t.Fatal(err)
				}
				other := fold.Save{ID: fold.PartitionID{Project: "shop", Partition: 8}, Sequence: 1, Whole: whole(nil)}
				err := s.Save(t.Context(), scope, []fold.Save{step.save, other})
				var older *fold.OlderError
				if errors.As(err, &older) != step.older || err != nil && older == nil {
					t.Fatalf("save: %v", err)
				}
				if step.older && (len(older.IDs) != 1 || older.IDs[0] != id) {
					t.Errorf("refused %v", older.IDs)
				}
				expect(t, s, scope, map[fold.PartitionID]fold.Partition{id: step.want, other.ID: {Sequence: 1}})
			})
		})
	}
}

func TestScopesAreApart(t *testing.T) {
	onEach(t, func(t *testing.T, s *fold.Store) {
		id := fold.PartitionID{Project: "shop", Partition: 1}
		if err := s.Save(t.Context(), scope, []fold.Save{{ID: id, Sequence: 1, Whole: whole(content("k/a", "1"))}}); err != nil {
			t.Fatal(err)
		}
		for _, other := range []fold.Scope{
			{Stream: "ffff", Phase: scope.Phase, Version: scope.Version},
			{Stream: scope.Stream, Phase: "learn", Version: scope.Version},
			{Stream: scope.Stream, Phase: scope.Phase, Version: "2"},
		} {
			expect(t, s, other, nil)
		}
	})
}

// More fields than the interpreter takes in one call, and a wiped store and
// forgotten scripts between saves.
func TestWiped(t *testing.T) {
	onEach(t, func(t *testing.T, s *fold.Store) {
		id := fold.PartitionID{Project: "shop", Partition: 63}
		fields := map[string][]byte{}
		for i := range 9_000 {
			fields[fmt.Sprintf("item/%d", i)] = fmt.Appendf(nil, "%d", i)
		}
		save := fold.Save{ID: id, Sequence: 100, Whole: whole(fields)}
		for round := range 3 {
			if err := s.Save(t.Context(), scope, []fold.Save{save}); err != nil {
				t.Fatal(err)
			}
			expect(t, s, scope, map[fold.PartitionID]fold.Partition{id: {Sequence: save.Sequence, Fields: fields}})
			if err := s.Client().FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			if err := s.Client().ScriptFlush(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			expect(t, s, scope, nil)
			fields["item/0"] = fmt.Appendf(nil, "round %d", round)
			save.Base, save.Sequence = save.Sequence, save.Sequence+1
			save.Changed = map[string][]byte{"item/0": fields["item/0"]}
		}
	})
}

// Savers at different places, as a zombie beside its successor, with a wiper
// in between: what is stored is always the fold at its sequence, and in the
// end the latest.
func TestConcurrentSavers(t *testing.T) {
	onEach(t, func(t *testing.T, s *fold.Store) {
		const savers, last = 4, 120
		id := fold.PartitionID{Project: "shop", Partition: 3}
		// At sequence n the fold has the fields 1 to n modulo 10, each with
		// the last n that touched it.
		at := func(n uint64) map[string][]byte {
			m := map[string][]byte{}
			for i := uint64(1); i <= n; i++ {
				m[fmt.Sprintf("k/%d", i%10)] = fmt.Appendf(nil, "%d", i)
			}
			return m
		}
		var wg sync.WaitGroup
		for saver := range savers {
			wg.Go(func() {
				step := uint64(saver + 1)
				for base := uint64(0); base < last; {
					next := min(base+step, last)
					changed := map[string][]byte{}
					for i := base + 1; i <= next; i++ {
						changed[fmt.Sprintf("k/%d", i%10)] = fmt.Appendf(nil, "%d", i)
					}
					err := s.Save(t.Context(), scope, []fold.Save{{
						ID: id, Base: base, Sequence: next, Changed: changed,
						Whole: func() map[string][]byte { return at(next) },
					}})
					var older *fold.OlderError
					if err != nil && !errors.As(err, &older) {
						t.Error(err)
						return
					}
					base = next
					if saver == 0 && base%40 == 0 && base < last {
						if err := s.Client().FlushAll(t.Context()).Err(); err != nil {
							t.Error(err)
						}
					}
					loaded, err := s.Load(t.Context(), scope)
					if err != nil {
						t.Error(err)
						return
					}
					if p, ok := loaded[id]; ok && fmt.Sprint(p.Fields) != fmt.Sprint(at(p.Sequence)) {
						t.Errorf("at %d stands %s", p.Sequence, p.Fields)
					}
				}
			})
		}
		wg.Wait()
		expect(t, s, scope, map[fold.PartitionID]fold.Partition{id: {Sequence: last, Fields: at(last)}})
	})
}

func TestAdvance(t *testing.T) {
	onEach(t, func(t *testing.T, s *fold.Store) {
		ctx, name := t.Context(), scope.Name("events")
		add := func(from, to uint64) error {
			return s.Advance(ctx, name, from, to, func(p redis.Pipeliner) error {
				p.IncrBy(ctx, "model", int64(to-from))
				return nil
			})
		}
		state := func(model string, position uint64) {
			t.Helper()
			m, err := s.Client().Get(ctx, "model").Result()
			if err != nil && !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
			at, err := s.Position(ctx, name)
			if m != model || at != position || err != nil {
				t.Errorf("model %q at %d, %v; want %q at %d", m, at, err, model, position)
			}
		}
		if err := errors.Join(add(0, 3), add(3, 10)); err != nil {
			t.Fatal(err)
		}
		state("10", 10)
		if err := add(3, 11); !errors.Is(err, fold.ErrMoved) {
			t.Errorf("from an old position: %v", err)
		}
		broken := errors.New("broken")
		if err := s.Advance(ctx, name, 10, 11, func(redis.Pipeliner) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("a broken apply: %v", err)
		}
		state("10", 10)
		// Wiped after the position was read, before the commands run.
		err := s.Advance(ctx, name, 10, 11, func(p redis.Pipeliner) error {
			p.IncrBy(ctx, "model", 1)
			return s.Client().FlushAll(ctx).Err()
		})
		if !errors.Is(err, fold.ErrMoved) {
			t.Errorf("wiped in between: %v", err)
		}
		state("", 0)
		if err := add(10, 11); !errors.Is(err, fold.ErrMoved) {
			t.Errorf("after a wipe: %v", err)
		}
	})
}

func TestExpiry(t *testing.T) {
	onEach(t, func(t *testing.T, s *fold.Store) {
		ctx := t.Context()
		if err := s.Client().Set(ctx, "short", 1, 30*time.Millisecond).Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.Client().Set(ctx, "long", 1, time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(5 * time.Second)
		for s.Client().Exists(ctx, "short").Val() == 1 {
			if time.Now().After(deadline) {
				t.Fatal("the key does not expire")
			}
			<-time.After(5 * time.Millisecond)
		}
		if s.Client().Exists(ctx, "long").Val() != 1 {
			t.Error("the other key is gone too")
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	for _, url := range []string{"", "http://127.0.0.1", "unix://" + filepath.Join(t.TempDir(), "none")} {
		if s, err := fold.Open(t.Context(), url); err == nil {
			closeStore(t, s)
			t.Errorf("opened %q", url)
		} else if strings.Contains(err.Error(), "\n\n") {
			t.Error(err)
		}
	}
}

// A pipeline whose requests and answers are both larger than any buffer
// between the two ends.
func TestLargePipeline(t *testing.T) {
	onEach(t, func(t *testing.T, s *fold.Store) {
		ctx, value := t.Context(), strings.Repeat("v", 1<<20)
		cmds, err := s.Client().Pipelined(ctx, func(p redis.Pipeliner) error {
			for range 8 {
				p.Set(ctx, "k", value, 0)
				p.Get(ctx, "k")
			}
			return nil
		})
		if err != nil || cmds[15].(*redis.StringCmd).Val() != value {
			t.Errorf("pipeline: %v", err)
		}
	})
}

// More than goes into one pipeline is saved whole too, by a store that has forgotten the script, and each save has its own
// answer.
func TestManySaves(t *testing.T) {
	onEach(t, func(t *testing.T, s *fold.Store) {
		want, saves := map[fold.PartitionID]fold.Partition{}, []fold.Save(nil)
		older := fold.PartitionID{Project: "shop", Partition: 17}
		if err := s.Save(t.Context(), scope, []fold.Save{{ID: older, Sequence: 9, Whole: whole(content("item/later", "9"))}}); err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			id, m := fold.PartitionID{Project: "shop", Partition: i}, map[string][]byte{}
			for j := range 1000 {
				m[fmt.Sprintf("item/%d-%d", i, j)] = []byte(strconv.Itoa(j))
			}
			saves = append(saves, fold.Save{ID: id, Sequence: 5, Whole: whole(m)})
			if want[id] = (fold.Partition{Sequence: 5, Fields: m}); id == older {
				want[id] = fold.Partition{Sequence: 9, Fields: content("item/later", "9")}
			}
		}
		if err := s.Client().ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		var refused *fold.OlderError
		if err := s.Save(t.Context(), scope, saves); !errors.As(err, &refused) || !slices.Equal(refused.IDs, []fold.PartitionID{older}) {
			t.Errorf("%v", err)
		}
		expect(t, s, scope, want)
	})
}

// A store that is wiped is another one for whoever was in the middle of writing it, also where it began with nothing.
func TestAWipedStoreIsAnother(t *testing.T) {
	onEach(t, func(t *testing.T, s *fold.Store) {
		mark, err := s.Mark(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if again, err := s.Mark(t.Context()); again != mark || err != nil {
			t.Errorf("marked %q, then %q: %v", mark, again, err)
		}
		if err := s.AdvanceMarked(t.Context(), "m", mark, 0, 5); err != nil {
			t.Fatal(err)
		}
		for _, marked := range []bool{false, true} { // by nobody, by another
			if err := s.Client().FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			if marked {
				if other, err := s.Mark(t.Context()); other == mark || err != nil {
					t.Errorf("the mark is %q still: %v", other, err)
				}
			}
			if err := s.AdvanceMarked(t.Context(), "m", mark, 0, 9); !errors.Is(err, fold.ErrMoved) {
				t.Errorf("marked again %t: %v", marked, err)
			}
			if at, err := s.Position(t.Context(), "m"); at != 0 || err != nil {
				t.Errorf("it stands at %d: %v", at, err)
			}
		}
	})
}

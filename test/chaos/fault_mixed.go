package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/test/chaos/small"
)

// mixed does everything at once: to three nodes, to Redis and to the services, of which every second copy meets everything
// twice, and one has a wrong clock.
func mixed(ctx context.Context, sc *Scene) (Row, error) {
	off := []string{"10m", "-10m"}[sc.rng.IntN(2)]
	row, _, err := sc.play(ctx, act{
		options: Options{Nodes: 3, Copies: 2, Space: true, Env: func(name string, n int) []string {
			env := named(name, n)
			if n == 1 {
				env = append(env, "CHAOS_TWICE=1", "CHAOS_LATEST=2s")
			}
			if name == small.Services[int(sc.Seed%uint64(len(small.Services)))] {
				env = append(env, "CHAOS_CLOCK="+off)
			}
			return env
		}},
		laps: 40, atOnce: 12, limit: 2 * time.Minute,
		disturb: func(ctx context.Context, s *Stack, _ *Probe) (string, error) {
			done := map[string]int{}
			for end := time.Now().Add(75 * time.Second); time.Now().Before(end); {
				what, err := s.anything(ctx, sc)
				if err != nil {
					return "", fmt.Errorf("%s: %w", what, err)
				}
				done[what]++
				wait(ctx, sc.between(100*time.Millisecond, 1500*time.Millisecond))
			}
			var said []string
			for _, what := range slices.Sorted(maps.Keys(done)) {
				said = append(said, fmt.Sprintf("%s %d", what, done[what]))
			}
			return "all at once, on three nodes, with doubled messages and a clock off by " + off + ": " + strings.Join(said, ", "), nil
		},
		judge: func(row *Row, _ Ledger) { row.paused() },
	})
	return row, err
}

// anything does one thing by chance.
func (s *Stack) anything(ctx context.Context, sc *Scene) (string, error) {
	switch n := sc.rng.IntN(20); {
	case n < 13:
		all := s.All()
		p := all[sc.rng.IntN(len(all))]
		return "services killed", p.Restart()
	case n < 16:
		_, err := s.usurp(ctx, sc, small.Services[sc.rng.IntN(len(small.Services))])
		return "owners paused", err
	case n < 18:
		if s.Redis == nil {
			return "nothing", nil
		}
		client := s.RedisClient()
		defer func() { _ = client.Close() }()
		return "redis emptied", client.FlushAll(ctx).Err()
	case n < 19:
		return "nodes killed", s.lose(ctx, sc, sc.rng.IntN(2) == 0, (*Node).die, (*Node).Start)
	default:
		return "nodes cut off", s.lose(ctx, sc, sc.rng.IntN(2) == 0, (*Node).part, (*Node).join)
	}
}

package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/lemnis/lemnis/test/chaos/small"
)

// Brief is a little of everything that one machine can do to itself within seconds, for `make test`.
func Brief(ctx context.Context, sc *Scene) (Row, Ledger, error) {
	poisoned := map[uint64]bool{}
	row, ledger, err := sc.play(ctx, act{
		options: Options{Nodes: 1, Copies: 2, Env: named}, laps: 4, atOnce: 4, limit: 2 * time.Minute,
		disturb: func(ctx context.Context, s *Stack, _ *Probe) (string, error) {
			const killed, bad = 6, 40
			all := s.All()
			for i := range killed {
				wait(ctx, sc.between(50*time.Millisecond, 300*time.Millisecond))
				p := all[sc.rng.IntN(len(all))]
				if i == 0 {
					p = s.Gateway
				}
				if err := p.Restart(); err != nil {
					return "", err
				}
			}
			emptied := "NOT emptied, as there is no redis-server on the PATH"
			if s.Redis != nil {
				client := s.RedisClient()
				defer func() { _ = client.Close() }()
				if err := client.FlushAll(ctx).Err(); err != nil {
					return "", err
				}
				emptied = "emptied"
			}
			for i := range bad {
				ack, err := s.JS.PublishMsg(ctx, sc.unreadable(i))
				if err != nil {
					return "", fmt.Errorf("publish poison: %w", err)
				}
				poisoned[ack.Sequence] = true
			}
			both, err := s.usurp(ctx, sc, small.Services[sc.rng.IntN(len(small.Services))])
			return fmt.Sprintf("kill -9 %d times, redis %s, %d messages that nobody can read, two deciding at once: %t", killed, emptied, bad, both), err
		},
		poisoned: func() map[uint64]bool { return poisoned },
	})
	row.Fault = "brief"
	return row, ledger, err
}

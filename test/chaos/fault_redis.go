package chaos

import (
	"context"
	"fmt"
	"time"
)

// store takes Redis away, empties it and makes it slow.
func store(ctx context.Context, sc *Scene) (Row, error) {
	if sc.Programs.Redis == "" {
		return Row{}, &Skipped{"there is no redis-server on the PATH"}
	}
	row, _, err := sc.play(ctx, act{
		options: Options{Nodes: 1, Copies: 2}, laps: pick(sc, 30, 4), atOnce: pick(sc, 16, 4), limit: 60 * time.Second,
		disturb: func(ctx context.Context, s *Stack, _ *Probe) (string, error) {
			rounds := pick(sc, 3, 1)
			for range rounds {
				if err := s.redis(ctx, sc); err != nil {
					return "", err
				}
			}
			return fmt.Sprintf("killed and back empty, emptied while it was used (3), slower by 500 ms, cut off; %d times each", rounds), nil
		},
	})
	return row, err
}

// redis does all that can be done to a Redis, and has the services start anew in the middle of it.
func (s *Stack) redis(ctx context.Context, sc *Scene) error {
	pause := func() { wait(ctx, sc.between(500*time.Millisecond, 2*time.Second)) }
	client := s.RedisClient()
	defer func() { _ = client.Close() }()
	s.Redis.Kill()
	pause()
	if err := s.Redis.Start(); err != nil {
		return err
	}
	if err := s.RedisReady(ctx); err != nil {
		return err
	}
	for range 3 {
		pause()
		if err := client.FlushAll(ctx).Err(); err != nil {
			return fmt.Errorf("empty redis: %w", err)
		}
	}
	s.Proxy.Slow(500 * time.Millisecond)
	pause()
	all := s.Deciders()
	if err := all[sc.rng.IntN(len(all))].Restart(); err != nil { // it loads folds slowly
		return err
	}
	wait(ctx, 5*time.Second)
	s.Proxy.Slow(0)
	pause()
	s.Proxy.Cut(true)
	pause()
	s.Proxy.Cut(false)
	pause()
	return ctx.Err()
}

package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/lemnis/lemnis/test/chaos/small"
)

// kills ends processes of Lemnis, any of them, without a warning, and starts them again.
func kills(ctx context.Context, sc *Scene) (Row, error) {
	n := pick(sc, 200, 8)
	row, _, err := sc.play(ctx, act{
		options: Options{Nodes: 1, Copies: 2, Env: named}, laps: pick(sc, 200, 6), atOnce: pick(sc, 24, 6), limit: 90 * time.Second,
		disturb: func(ctx context.Context, s *Stack, _ *Probe) (string, error) {
			by := map[string]int{}
			for range n {
				wait(ctx, sc.between(50*time.Millisecond, 700*time.Millisecond))
				all := s.All()
				p := all[sc.rng.IntN(len(all))]
				p.Kill()
				by[p.Name]++
				wait(ctx, sc.between(0, 300*time.Millisecond))
				if err := p.Start(); err != nil {
					return "", err
				}
				if ctx.Err() != nil {
					return "", ctx.Err()
				}
			}
			return fmt.Sprintf("kill -9 of %d processes, %d times in all", len(by), n), nil
		},
	})
	return row, err
}

// named lets every second process take its predecessor's leases over at once; the others wait for them to run out.
func named(name string, n int) []string {
	if n%2 == 0 {
		return nil
	}
	return []string{fmt.Sprintf("CHAOS_INSTANCE=%s-%d", name, n)}
}

// pauses stops the process that decides until another has taken over, and wakes it up: two are active at once.
func pauses(ctx context.Context, sc *Scene) (Row, error) {
	n := pick(sc, 30, 1)
	row, _, err := sc.play(ctx, act{
		options: Options{Nodes: 1, Copies: 2}, laps: pick(sc, 30, 4), atOnce: pick(sc, 16, 4), limit: 60 * time.Second,
		disturb: func(ctx context.Context, s *Stack, _ *Probe) (string, error) {
			both := 0
			for i := range n {
				name := small.Services[(i+sc.rng.IntN(2))%len(small.Services)]
				ok, err := s.usurp(ctx, sc, name)
				if err != nil {
					return "", err
				}
				if ok {
					both++
				}
				wait(ctx, sc.between(100*time.Millisecond, time.Second))
			}
			return fmt.Sprintf("the deciding process paused %d times, and woken up %d times while another decided", n, both), nil
		},
	})
	return row, err
}

// usurp pauses the owner of a service until another has taken over, and wakes it up; false when nobody did in time.
func (s *Stack) usurp(ctx context.Context, sc *Scene, name string) (bool, error) {
	owner := s.Owner(ctx, name)
	for end := time.Now().Add(10 * time.Second); owner == nil; owner = s.Owner(ctx, name) {
		if time.Now().After(end) || ctx.Err() != nil {
			return false, fmt.Errorf("nobody decides for the %s", name)
		}
		wait(ctx, 50*time.Millisecond)
	}
	owner.Pause()
	defer owner.Resume()
	for end := time.Now().Add(10 * s.Lease); time.Now().Before(end); wait(ctx, 50*time.Millisecond) {
		for _, p := range s.Services[name] {
			if p == owner {
				continue
			}
			if page, err := s.ask(ctx, p, "/metrics"); err == nil && owns(page) {
				wait(ctx, sc.between(0, s.Lease)) // the new one gets to work
				return true, nil
			}
		}
	}
	return false, nil
}

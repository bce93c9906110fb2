package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/lemnis/lemnis/test/chaos/small"
)

// clocks sets the clock of one service after the other ten minutes ahead, then behind.
func clocks(ctx context.Context, sc *Scene) (Row, error) {
	row, _, err := sc.play(ctx, act{
		options: Options{Nodes: 1, Copies: 2}, laps: pick(sc, 30, 4), atOnce: 12, limit: 60 * time.Second,
		disturb: func(ctx context.Context, s *Stack, _ *Probe) (string, error) {
			services := small.Services
			if sc.Short {
				services = []string{small.Services[sc.rng.IntN(len(small.Services))]}
			}
			for _, name := range services {
				for _, off := range []string{"10m", "-10m", "0s"} {
					if err := s.setClock(ctx, name, off); err != nil {
						return "", err
					}
					wait(ctx, sc.between(time.Second, 3*time.Second))
				}
			}
			return fmt.Sprintf("the clock of each of %d services 10 min ahead, then 10 min behind, then right", len(services)), ctx.Err()
		},
	})
	return row, err
}

// setClock starts the copies of a service again, one after the other, with a clock that is off.
func (s *Stack) setClock(ctx context.Context, name, off string) error {
	for i, p := range s.Services[name] {
		if err := p.Stop(40 * time.Second); err != nil {
			return err
		}
		p.setEnv(append(s.environment(name, i), "CHAOS_CLOCK="+off))
		if err := p.Start(); err != nil {
			return err
		}
		if err := s.ready(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

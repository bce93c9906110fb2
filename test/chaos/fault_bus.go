package chaos

import (
	"context"
	"fmt"
	"time"
)

// longestPause is how long publishing may pause while the bus loses a node.
const longestPause = 10 * time.Second

// cluster takes nodes of the bus away: another than the leader, the streams' leader, and one that is cut from the network.
func cluster(ctx context.Context, sc *Scene) (Row, error) {
	var spaceless error
	row, _, err := sc.play(ctx, act{
		options: Options{Nodes: 3, Copies: 2, Space: true}, laps: pick(sc, 30, 2), atOnce: pick(sc, 12, 2), limit: 90 * time.Second,
		disturb: func(ctx context.Context, s *Stack, _ *Probe) (string, error) {
			spaceless = s.Spaceless
			how := "cut from the network"
			if spaceless != nil {
				how = "stopped (in place of being cut from the network)"
			}
			rounds := pick(sc, 2, 1)
			for range rounds {
				for _, step := range []func() error{
					func() error { return s.lose(ctx, sc, false, (*Node).die, (*Node).Start) },
					func() error { return s.lose(ctx, sc, true, (*Node).die, (*Node).Start) },
					func() error { return s.lose(ctx, sc, true, (*Node).part, (*Node).join) },
					func() error { return s.lose(ctx, sc, false, (*Node).part, (*Node).join) },
				} {
					if err := step(); err != nil {
						return "", err
					}
				}
			}
			return fmt.Sprintf("of three nodes: another than the leader and the streams' leader killed, %d times each; the leader and another %s and back, %d times each",
				rounds, how, rounds), nil
		},
		judge: func(row *Row, _ Ledger) { row.paused() },
	})
	if spaceless != nil {
		row.Notes = append(row.Notes, fmt.Sprintf("SKIPPED: no network name spaces (%v): nodes were stopped and woken, NOT cut from the network", spaceless))
	}
	return row, err
}

// paused holds a row to how long publishing may pause.
func (r *Row) paused() {
	if r.Pause > longestPause {
		r.Findings = append(r.Findings, Finding{Slow, fmt.Sprintf("nothing could be published for %s; %s at most", r.Pause, longestPause)})
	}
}

func (n *Node) die() error  { n.Kill(); return nil }
func (n *Node) part() error { return n.cut() }
func (n *Node) join() error { return n.heal() }

// lose takes the streams' leader, or another node, away for some seconds, and waits until the bus is whole again.
func (s *Stack) lose(ctx context.Context, sc *Scene, leading bool, away, back func(*Node) error) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	name, err := leader(ctx, s.JS)
	for ; err != nil; name, err = leader(ctx, s.JS) {
		if ctx.Err() != nil {
			return err
		}
		wait(ctx, 200*time.Millisecond)
	}
	var candidates []*Node
	for _, n := range s.Nodes {
		if (n.Name == name) == leading {
			candidates = append(candidates, n)
		}
	}
	n := candidates[sc.rng.IntN(len(candidates))]
	if err := away(n); err != nil {
		return err
	}
	wait(ctx, sc.between(4*time.Second, 8*time.Second))
	if err := back(n); err != nil {
		return err
	}
	if err := whole(ctx, s.JS, len(s.Nodes)); err != nil {
		return err
	}
	wait(ctx, time.Second)
	return nil
}

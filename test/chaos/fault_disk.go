package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// disk fills the disk that the streams are on, really, and frees it again.
func disk(ctx context.Context, sc *Scene) (Row, error) {
	if sc.Short {
		return Row{}, &Skipped{"the disk is filled in the full form only"}
	}
	folder := filepath.Join(sc.Dir, "disk")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return Row{}, err
	}
	if err := syscall.Mount("lemnis-chaos", folder, "tmpfs", 0, "size=512m"); err != nil {
		return Row{}, &Skipped{fmt.Sprintf("a small disk could not be mounted (%v); it takes root", err)}
	}
	defer func() { _ = syscall.Unmount(folder, syscall.MNT_DETACH) }()
	ballast := filepath.Join(folder, "ballast")
	var notes []string
	row, _, err := sc.play(ctx, act{
		options: Options{Nodes: 1, Copies: 1, Store: folder}, laps: 24, atOnce: 12, limit: 90 * time.Second,
		disturb: func(ctx context.Context, s *Stack, p *Probe) (string, error) {
			restarts := 0
			for range 2 {
				wait(ctx, 4*time.Second)
				note, again, err := s.fill(ctx, p, folder, ballast)
				if err != nil {
					return "", err
				}
				if again {
					restarts++
				}
				notes = append(notes, note)
			}
			return fmt.Sprintf("the disk filled twice, to its last byte, and freed; nats-server started again %d times, since it stops its streams on a full disk for good", restarts), nil
		},
	})
	row.Notes = append(row.Notes, notes...)
	return row, err
}

// fill leaves not a byte on the disk until publishers have been refused for a while, then frees it. A server that does not
// go on by itself is started again, as whoever watches its health does.
func (s *Stack) fill(ctx context.Context, p *Probe, folder, ballast string) (note string, restarted bool, err error) {
	before := total(p.Refused())
	if err := stuff(folder, ballast); err != nil {
		return "", false, err
	}
	since := time.Now()
	for total(p.Refused()) < before+20 {
		if time.Since(since) > 30*time.Second || ctx.Err() != nil {
			return "", false, errors.New("the disk is full, and nobody was refused")
		}
		wait(ctx, 50*time.Millisecond)
	}
	if err := os.Remove(ballast); err != nil {
		return "", false, err
	}
	resumed := func(limit time.Duration) bool {
		n := len(p.Acknowledged())
		for end := time.Now().Add(limit); time.Now().Before(end); wait(ctx, 50*time.Millisecond) {
			if len(p.Acknowledged()) > n {
				return true
			}
		}
		return false
	}
	freed := time.Now()
	if !resumed(8 * time.Second) {
		restarted = true
		if err := s.Nodes[0].Restart(); err != nil {
			return "", true, err
		}
		if !resumed(30 * time.Second) {
			return "", true, fmt.Errorf("publishing does not go on after the disk was freed: %s", s.Nodes[0].tail(2000))
		}
	}
	return fmt.Sprintf("publishing went on %s after the disk was freed", time.Since(freed).Round(100*time.Millisecond)), restarted, nil
}

func total(by map[string]int) (n int) {
	for _, m := range by {
		n += m
	}
	return n
}

// stuff writes until there is no room, and keeps it so for a moment, while others free some.
func stuff(folder, ballast string) error {
	f, err := os.OpenFile(ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for _, size := range []int{1 << 20, 4096, 1} {
		piece := make([]byte, size)
		for {
			if _, err := f.Write(piece); err != nil {
				if !errors.Is(err, syscall.ENOSPC) {
					return fmt.Errorf("fill the disk: %w", err)
				}
				break
			}
		}
	}
	var left syscall.Statfs_t
	if err := syscall.Statfs(folder, &left); err != nil {
		return err
	}
	if left.Bavail > 0 {
		return fmt.Errorf("%d blocks of the disk are still free", left.Bavail)
	}
	return nil
}

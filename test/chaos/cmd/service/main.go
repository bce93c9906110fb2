// Command service runs one service for the proof: its own definitions with small effects (package small), on a clock and
// with timings that the proof chooses, and with its reading disturbed where it was built for that (tag chaos).
//
//	service planner
//
// It is configured by the environment of every service (LEMNIS_NATS_URL, …), and by
//
//	CHAOS_CLOCK     how far its clock is off: 10m, -10m
//	CHAOS_LEASE     TTL of its leases, default 5s
//	CHAOS_INSTANCE  a name under which it takes its predecessor's leases over at once; empty: none
//	CHAOS_SEED      of its chances
//	CHAOS_TWICE     1: everything is met twice, out of the order of the aggregates, and late
//	CHAOS_LATEST    how late at most, default 30s
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/test/chaos/small"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintf(os.Stderr, "usage: service %v\n", small.Services)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1])
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "service %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name string) error {
	env, err := service.ReadEnvironment(os.Getenv)
	if err != nil {
		return err
	}
	with, err := readSettings()
	if err != nil {
		return err
	}
	log, err := service.NewLog(env.Log)
	if err != nil {
		return err
	}
	log = log.Named(name)
	host, closeHost, err := env.Connect(ctx, log, nil)
	if err != nil {
		return err
	}
	defer closeHost()
	host.Instance, host.Timing.Lease = with.instance, with.lease
	host.Clock = shifted{with.clock}
	delays := newDelays(with.seed, with.latest)
	defs, err := small.Definitions(ctx, name, host, small.Options{Data: filepath.Join(env.Data, name), Seed: with.seed, Twice: with.twice, Late: delays.next})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	var services []*service.Service
	for _, d := range defs {
		h := host
		if with.twice {
			if h, err = disturbed(ctx, host, delays); err != nil {
				return err
			}
		}
		services = append(services, service.New(h, d))
	}
	for _, s := range services {
		group.Go(func() error { return s.Run(ctx) })
	}
	if env.HTTP != "" {
		group.Go(func() error { return service.ServeHealth(ctx, env.HTTP, host, services) })
	}
	return group.Wait()
}

// settings are what the proof chooses.
type settings struct {
	clock, lease, latest time.Duration
	instance             string
	seed                 uint64
	twice                bool
}

func readSettings() (s settings, err error) {
	duration := func(name string, def time.Duration) time.Duration {
		text := os.Getenv(name)
		if text == "" || err != nil {
			return def
		}
		var d time.Duration
		if d, err = time.ParseDuration(text); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
		return d
	}
	s = settings{
		clock: duration("CHAOS_CLOCK", 0), lease: duration("CHAOS_LEASE", 5*time.Second), latest: duration("CHAOS_LATEST", 30*time.Second),
		instance: os.Getenv("CHAOS_INSTANCE"), twice: os.Getenv("CHAOS_TWICE") == "1",
	}
	if text := os.Getenv("CHAOS_SEED"); text != "" && err == nil {
		if s.seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			err = fmt.Errorf("CHAOS_SEED: %w", err)
		}
	}
	return s, err
}

// shifted is the machine's clock, off by a fixed time.
type shifted struct{ by time.Duration }

// Now is the time as a machine with a wrong clock has it.
func (s shifted) Now() time.Time { return time.Now().Add(s.by) }

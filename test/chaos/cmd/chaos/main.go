// Command chaos plays faults on an installation under load, and exits with 1 when a promise was broken. `make chaos` runs it.
//
//	chaos [-seed N] [-short] [-run kill,bus,…] [-limit 30m] [-keep DIR]
//	chaos -soak 10m
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lemnis/lemnis/test/chaos"
)

func main() {
	seed := flag.Uint64("seed", 0, "of every chance; 0 draws one")
	short := flag.Bool("short", false, "a few of each fault")
	only := flag.String("run", "", "faults, separated by commas; all when empty")
	keep := flag.String("keep", "", "folder for logs and streams, which stays; a temporary one when empty")
	limit := flag.Duration("limit", 30*time.Minute, "for everything")
	soak := flag.Duration("soak", 0, "no faults, but a steady load for this long: memory, goroutines and file descriptors have to stay flat")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if *soak > 0 {
		*limit += *soak
	}
	ctx, cancel := context.WithTimeoutCause(ctx, *limit, fmt.Errorf("not within %s", *limit))
	ok, err := run(ctx, *seed, *short, *only, *keep, *soak)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "chaos: %v\n", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run(ctx context.Context, seed uint64, short bool, only, keep string, soak time.Duration) (ok bool, err error) {
	if seed == 0 {
		seed = rand.Uint64N(1 << 32) //nolint:gosec // a seed is no secret
	}
	began := time.Now()
	tell := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	fmt.Printf("seed %d\n", seed)
	if keep == "" {
		if keep, err = os.MkdirTemp("", "lemnis-chaos-"); err != nil {
			return false, err
		}
		defer func() {
			if ok {
				_ = os.RemoveAll(keep)
			} else {
				tell("logs and streams are in %s", keep)
			}
		}()
	} else if err := os.MkdirAll(keep, 0o700); err != nil {
		return false, err
	}
	tell("building the programs")
	programs, err := chaos.Build(keep)
	if err != nil {
		return false, err
	}
	scene := &chaos.Scene{Programs: programs, Dir: keep, Seed: seed, Short: short, Tell: tell}
	if soak > 0 {
		return chaos.Soak(ctx, scene, soak, os.Stdout)
	}
	var rows []chaos.Row
	ok = true
	for _, f := range chaos.Faults() {
		if only != "" && !slices.Contains(strings.Split(only, ","), f.Name) {
			continue
		}
		on, err := scene.On(f.Name)
		if err != nil {
			return false, err
		}
		tell("%s …", f.Name)
		row, err := f.Play(ctx, on)
		row.Fault = f.Name
		var skipped *chaos.Skipped
		switch {
		case errors.As(err, &skipped):
			row.Done = skipped.Error()
		case err != nil:
			ok = false
			row.Findings = append(row.Findings, chaos.Finding{Rule: chaos.Lost, Text: "it could not be played to its end: " + err.Error()})
		}
		ok = ok && len(row.Findings) == 0
		tell("%s: %d laps, %d changes, %d events, %d findings. %s", f.Name, row.Laps, row.Changes, row.Events, len(row.Findings), row.Done)
		for _, one := range row.Findings[:min(len(row.Findings), 5)] {
			tell("  %s", one)
		}
		rows = append(rows, row)
	}
	fmt.Println()
	chaos.Report(os.Stdout, seed, began, rows)
	return ok, nil
}

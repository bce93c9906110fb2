package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/lemnis/lemnis/test/chaos/small"
)

// Scene is where a fault is played: what it may take, and its chances.
type Scene struct {
	Programs Programs
	Dir      string
	Seed     uint64
	Short    bool
	Tell     func(format string, args ...any)

	rng *rand.Rand
}

// Fault is something that is done to a stack under load.
type Fault struct {
	Name string
	Play func(ctx context.Context, sc *Scene) (Row, error)
}

// Faults are all, in the order in which they are played.
func Faults() []Fault {
	return []Fault{
		{"kill", kills}, {"pause", pauses}, {"bus", cluster}, {"redis", store}, {"delivery", delivery},
		{"disk", disk}, {"clock", clocks}, {"poison", poison}, {"mixed", mixed},
	}
}

// Row is what one fault led to.
type Row struct {
	Fault   string
	Done    string // what was done, and how often
	Laps    int
	Changes int
	Verdict
	Pause time.Duration // longest time for which nothing could be published
	Took  time.Duration
	Notes []string
}

// Skipped says loudly that a fault, or a part of it, could not be played here.
type Skipped struct{ Reason string }

// Error is the reason.
func (s *Skipped) Error() string { return "SKIPPED: " + s.Reason }

// On gives a fault its own folder and chances.
func (sc *Scene) On(fault string) (*Scene, error) {
	one := *sc
	one.Dir = filepath.Join(sc.Dir, fault)
	if err := os.MkdirAll(one.Dir, 0o700); err != nil {
		return nil, err
	}
	var n uint64
	for _, c := range fault {
		n = 31*n + uint64(c)
	}
	one.rng = rand.New(rand.NewPCG(sc.Seed, n)) //nolint:gosec // repeatable chance, not secrets
	return &one, nil
}

// pick is full, or short in the short form.
func pick[T any](sc *Scene, full, short T) T {
	if sc.Short {
		return short
	}
	return full
}

// between draws a time.
func (sc *Scene) between(least, most time.Duration) time.Duration {
	return least + time.Duration(sc.rng.Int64N(int64(most-least)+1))
}

// act is a fault on a stack under load.
type act struct {
	options Options // Programs, Dir, Lease and Seed are filled in
	laps    int     // at least
	exactly bool    // and no more
	atOnce  int
	// limit is for the load to close its laps once disturb has returned.
	limit   time.Duration
	disturb func(ctx context.Context, s *Stack, p *Probe) (done string, err error)
	// settle brings the stack back to where it can come to rest; may be nil.
	settle func(ctx context.Context, s *Stack) error
	// poisoned tells which messages the proof has made unreadable; may be nil.
	poisoned func() map[uint64]bool
	// judge looks at what only this fault promises; may be nil.
	judge func(row *Row, l Ledger)
	name  string // of the projects; "lap" when empty
}

// play plays it: a stack, a load and a probe on it, the fault; then rest, and the check of everything that stands on the
// stream, and of the folds.
func (sc *Scene) play(ctx context.Context, a act) (row Row, ledger Ledger, err error) {
	began := time.Now()
	o := a.options
	o.Programs, o.Seed = sc.Programs, sc.Seed
	if o.Lease == 0 {
		o.Lease = time.Second
	}
	if o.Dir, err = os.MkdirTemp(sc.Dir, "stack-"); err != nil {
		return row, ledger, err
	}
	s, err := Up(ctx, o)
	if err != nil {
		return row, ledger, err
	}
	down := false
	defer func() {
		if !down {
			err = errors.Join(err, s.Down())
		}
	}()
	load, probe := NewLoad(s), NewProbe(s.JS, 50*time.Millisecond)
	var disturbed error
	row.Done, row.Findings, disturbed = sc.run(ctx, a, s, load, probe)
	if disturbed != nil {
		return row, ledger, disturbed
	}
	ledger, err = sc.rest(ctx, a, s)
	if err != nil {
		return row, ledger, err
	}
	ledger.Laps, ledger.Acked = load.Laps(), append(load.Acknowledged(), probe.Acknowledged()...)
	if a.poisoned != nil {
		ledger.Poison = a.poisoned()
	}
	before := row.Findings
	row.Verdict = Check(ledger)
	row.Findings = append(before, row.Findings...)
	row.Laps, row.Changes, row.Pause = len(ledger.Laps), changes(ledger.Laps), probe.Pause()
	row.Findings = append(row.Findings, sc.folds(ctx, s, &row)...)
	row.Notes = append(row.Notes, told("the gateway put claims off", load.refusals), told("the bus put publications off", probe.Refused()))
	if a.judge != nil {
		a.judge(&row, ledger)
	}
	down = true
	if err := s.Down(); err != nil {
		row.Findings = append(row.Findings, Finding{Stray, err.Error()})
	}
	row.Took = time.Since(began)
	return row, ledger, nil
}

// run turns laps while the fault is played, and until there are enough and all are closed.
func (sc *Scene) run(ctx context.Context, a act, s *Stack, load *Load, probe *Probe) (done string, findings []Finding, err error) {
	probing, stopProbing := context.WithCancel(ctx)
	var prober sync.WaitGroup
	prober.Go(func() { probe.Run(probing) })
	defer func() { stopProbing(); prober.Wait() }()

	turning, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	var over sync.Once
	ended := make(chan struct{}) // the fault has been played
	name := a.name
	if name == "" {
		name = "lap"
	}
	plan, n := Plan{Seed: sc.Seed, Name: name}, 0
	next := func() (Lap, bool) {
		if a.exactly && n >= a.laps {
			return Lap{}, false
		}
		select {
		case <-ended:
			if n >= a.laps {
				return Lap{}, false
			}
		default:
		}
		n++
		return plan.Lap(n), true
	}
	var disturber sync.WaitGroup
	disturber.Go(func() {
		defer over.Do(func() { close(ended) })
		done, err = a.disturb(ctx, s, probe)
		if err == nil && a.settle != nil {
			err = a.settle(ctx, s)
		}
		if err != nil {
			giveUp(err)
			return
		}
		time.AfterFunc(a.limit, func() { giveUp(fmt.Errorf("not within %s after the fault", a.limit)) })
	})
	open := load.Run(turning, next, a.atOnce)
	disturber.Wait()
	if err == nil && open != nil {
		for line := range strings.SplitSeq(open.Error(), "\n") {
			findings = append(findings, Finding{Lost, line})
		}
	}
	return done, findings, err
}

// rest waits until nothing comes any more, ends the services in order and reads everything.
func (sc *Scene) rest(ctx context.Context, _ act, s *Stack) (l Ledger, err error) {
	resting, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	if err := whole(resting, s.JS, len(s.Nodes)); err != nil {
		return l, err
	}
	if err := Quiet(resting, s.JS, 2*time.Second); err != nil {
		return l, err
	}
	if err := s.StopServices(); err != nil {
		return l, err
	}
	if l.Stream, err = ReadStream(resting, s.JS); err != nil {
		return l, err
	}
	l.Letters, err = ReadLetters(resting, s.JS)
	return l, err
}

// folds compares what the services remembered in Redis with what they fold from the stream alone.
func (sc *Scene) folds(ctx context.Context, s *Stack, row *Row) []Finding {
	if s.Redis == nil {
		row.Notes = append(row.Notes, "SKIPPED: there is no redis-server on the PATH, so folds were NOT compared")
		return nil
	}
	problem := func(err error) []Finding { return []Finding{{Stray, "folds: " + err.Error()}} }
	remembered, err := readFolds(ctx, s)
	if err != nil {
		return problem(err)
	}
	client := s.RedisClient()
	defer func() { _ = client.Close() }()
	if err := client.FlushAll(ctx).Err(); err != nil {
		return problem(err)
	}
	for _, name := range small.Services {
		p := s.Services[name][0]
		s.Env = nil
		p.setEnv(s.environment(name, 0))
		if err := p.Start(); err != nil {
			return problem(err)
		}
	}
	for _, name := range small.Services {
		if err := s.ready(ctx, s.Services[name][0]); err != nil {
			return problem(err)
		}
	}
	if err := s.StopServices(); err != nil {
		return problem(err)
	}
	anew, err := readFolds(ctx, s)
	if err != nil {
		return problem(err)
	}
	row.Notes = append(row.Notes, fmt.Sprintf("%d folds compared with the stream's", len(anew)))
	return differences(remembered, anew)
}

func told(what string, by map[string]int) string {
	if len(by) == 0 {
		return ""
	}
	total, most, reason := 0, 0, ""
	for text, n := range by {
		total += n
		if n > most {
			most, reason = n, text
		}
	}
	return fmt.Sprintf("%s %d times, most often: %s", what, total, reason)
}

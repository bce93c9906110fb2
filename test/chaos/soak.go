package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// soakProjects are the projects that the steady load goes round in. It makes no new aggregates, since what is remembered
// of those that there are grows with them, and should.
const soakProjects = 6

// Soak turns a steady load for as long as it is told: two versions of each project's service take turns through all
// environments, and an item of its backlog is renamed each time. It prints what each process used; false when that grew.
func Soak(ctx context.Context, sc *Scene, length time.Duration, out io.Writer) (bool, error) {
	dir, err := os.MkdirTemp(sc.Dir, "soak-")
	if err != nil {
		return false, err
	}
	s, err := Up(ctx, Options{Programs: sc.Programs, Dir: dir, Nodes: 1, Copies: 1, Lease: 5 * time.Second, Seed: sc.Seed})
	if err != nil {
		return false, err
	}
	ok, err := s.soak(ctx, sc, length, out)
	return ok, errors.Join(err, s.Down())
}

func (s *Stack) soak(ctx context.Context, sc *Scene, length time.Duration, out io.Writer) (bool, error) {
	load := NewLoad(s)
	turning, stop := context.WithCancel(ctx)
	defer stop()
	var following, turns sync.WaitGroup
	following.Go(func() {
		_ = load.follow(turning, func(e events.Event) { // ends with the load
			if j := load.journal(e.Project); j != nil {
				j.add(e)
			}
		})
	})
	var mu sync.Mutex
	rounds, failed := 0, error(nil)
	for n := range soakProjects {
		lap := Lap{Project: fmt.Sprintf("soak-%d", n+1), Changes: []Change{{ID: "c1", Kind: "good", Head: commitOf(n)}}}
		load.begin(lap)
		turns.Go(func() {
			err := load.steady(turning, lap, func() { mu.Lock(); rounds++; mu.Unlock() })
			if turning.Err() == nil {
				mu.Lock()
				failed = errors.Join(failed, fmt.Errorf("project %s: %w", lap.Project, err))
				mu.Unlock()
			}
		})
	}
	samples, err := s.sample(ctx, sc, length)
	stop()
	turns.Wait()
	following.Wait()
	if err := errors.Join(err, failed); err != nil {
		return false, err
	}
	fmt.Fprintf(out, "Seed %d, %s of steady load: %d rounds in %d projects, %d claims.\n\n", sc.Seed, length, rounds, soakProjects, len(load.Acknowledged()))
	return flat(out, samples), nil
}

func commitOf(n int) string { return fmt.Sprintf("%040x", n+1) }

// steady deploys two versions in turn until something fails, or ctx ends.
func (l *Load) steady(ctx context.Context, lap Lap, done func()) error {
	t := &turn{load: l, lap: lap, journal: l.journal(lap.Project)}
	for _, step := range []func(context.Context) error{t.begin, t.listen, func(ctx context.Context) error { return t.change(ctx, lap.Changes[0]) }} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	var digests []string
	for _, e := range t.journal.snapshot() {
		if c, ok := e.Content.(events.ArtifactPublished); ok {
			digests = append(digests, c.Lemnis.Digest)
		}
	}
	if len(digests) != 2 {
		return fmt.Errorf("%d artifacts instead of 2", len(digests))
	}
	for round := 1; ; round++ {
		t.journal.forget()
		if err := t.claim(ctx, fmt.Sprintf("rename-%d", round), wish, "", events.TicketUpdated{
			Ticket: events.Ticket{Summary: fmt.Sprintf("A faster checkout, %d", round%10), Creator: "sam", URI: "urn:chaos:" + wish}, UpdatedBy: "sam"}); err != nil {
			return err
		}
		digest := digests[(round+1)%2]
		if err := t.claim(ctx, fmt.Sprintf("deploy-%d", round), "dev/"+service, "", events.DeploymentRequested{
			Rollout: events.Rollout{Environment: "dev", Service: service, Artifact: events.ArtifactDetail{Digest: digest}}, Reason: "soak"}); err != nil {
			return err
		}
		asked, err := t.journal.find(ctx, "the question whether it may enter", func(e events.Event) bool {
			_, ok := e.Content.(events.ApprovalRequested)
			return ok
		})
		if err != nil {
			return err
		}
		r := asked.Content.(events.ApprovalRequested).Rollout //nolint:forcetypeassert // it was looked for
		if err := t.claim(ctx, "approve-"+r.ID, r.ID, asked.Chain, events.ApprovalGiven{Environment: r.Environment, Service: r.Service, Rollout: r.ID, By: "eve"}); err != nil {
			return err
		}
		if _, err := t.journal.find(ctx, "it to serve all users", func(e events.Event) bool {
			c, ok := e.Content.(events.ServicePublished)
			return ok && c.Lemnis.Rollout.Next == ""
		}); err != nil {
			return err
		}
		done()
		wait(ctx, 200*time.Millisecond)
	}
}

func (j *journal) snapshot() []events.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]events.Event(nil), j.all...)
}

// forget drops what was seen.
func (j *journal) forget() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all = nil
}

package small

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/lemnis/lemnis/internal/privacy"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/builder"
	"github.com/lemnis/lemnis/services/deployer"
	"github.com/lemnis/lemnis/services/feedback"
	"github.com/lemnis/lemnis/services/monitor"
	"github.com/lemnis/lemnis/services/planner"
)

// Services are the names that [Definitions] knows.
var Services = []string{"planner", "builder", "deployer", "monitor", "feedback"}

// Options of the services.
type Options struct {
	// Data is a folder of the process's own.
	Data string
	// Longest is how long an effect takes at most; 20 ms when zero.
	Longest time.Duration
	Seed    uint64
	// Twice makes each fact that asks for work come twice, the second time up to Late later.
	Twice bool
	Late  func() time.Duration
}

// Definitions are those of a service, with small effects.
func Definitions(ctx context.Context, name string, h service.Host, o Options) ([]service.Definition, error) {
	if o.Longest <= 0 {
		o.Longest = 20 * time.Millisecond
	}
	w := work{longest: o.Longest, chance: &chance{rng: rand.New(rand.NewPCG(o.Seed, 7))}} //nolint:gosec // repeatable chance, not secrets
	var defs []service.Definition
	switch name {
	case "planner":
		defs = []service.Definition{planner.New()}
	case "builder":
		defs = builder.New(builder.Options{Data: o.Data, Registry: "registry.invalid", Parallel: 4}) //nolint:contextcheck // it removes what a killed one left
		if err := replace(defs, map[string]do{"pipeline": w.pipeline, "merge": w.merge, "survey": w.survey, "land": w.land, "package": w.pack, "adopt": w.adopt, "status": w.status}); err != nil {
			return nil, err
		}
	case "deployer":
		one := deployer.New(deployer.Options{Data: o.Data})
		one.Duties, one.Projections = nil, nil // there is no site to converge
		defs = []service.Definition{one}
		if err := replace(defs, map[string]do{"verify": w.verify, "place": w.place, "return": w.again, "test": w.test, "shift": w.shift, "undo": w.undo, "retire": w.retire}); err != nil {
			return nil, err
		}
	case "monitor":
		defs = []service.Definition{monitor.New(monitor.Options{})}
	case "feedback":
		vault, err := privacy.NewVault(ctx, h.JS, h.Replicas)
		if err != nil {
			return nil, fmt.Errorf("users' keys: %w", err)
		}
		defs = []service.Definition{feedback.New(feedback.Options{Keys: vault})}
	default:
		return nil, fmt.Errorf("there is no service %q; there are %v", name, Services)
	}
	if o.Twice {
		for i := range defs {
			for j := range defs[i].Effects {
				twice(&defs[i].Effects[j], o.Late)
			}
		}
	}
	return defs, nil
}

// do is the work of an effect.
type do = func(context.Context, *service.Job) error

// replace puts small effects in; one that has no replacement, or a replacement that nobody has, is an error: the
// service's effects have changed.
func replace(defs []service.Definition, by map[string]do) error {
	for _, d := range defs {
		for j, e := range d.Effects {
			small := by[e.Name]
			if small == nil {
				return fmt.Errorf("the effect %s of %s has no small form", e.Name, d.Phase)
			}
			d.Effects[j].Do = small
			delete(by, e.Name)
		}
	}
	for name := range by {
		return fmt.Errorf("no service has an effect %s any more", name)
	}
	return nil
}

// twice has the first attempt at each fact followed by another, as if its acknowledgement had been lost.
func twice(e *service.Effect, late func() time.Duration) {
	once := e.Do
	e.Do = func(ctx context.Context, job *service.Job) error {
		err := once(ctx, job)
		if err == nil && job.Attempt == 1 {
			return events.Retry(late()+time.Millisecond, errAgain)
		}
		return err
	}
}

var errAgain = fmt.Errorf("done, and asked for again by the proof")

// work is what the small effects share.
type work struct {
	longest time.Duration
	chance  *chance
}

// pause is the time that the work takes.
func (w work) pause(ctx context.Context) error {
	timer := time.NewTimer(w.chance.below(w.longest))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

type chance struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (c *chance) below(d time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(c.rng.Int64N(int64(d)))
}

package lap

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/pkg/events"
)

// ErrPartial says that the lap ended after integrate, since what was built serves nobody.
var ErrPartial = errors.New("partial lap: the program serves nothing on $PORT, so nothing was deployed after integrate")

// StepError names the step at which a lap ended.
type StepError struct {
	Number int // from 0, the preparation
	Step   string
	Err    error
}

// Error names step and cause.
func (e *StepError) Error() string { return fmt.Sprintf("step %d (%s): %v", e.Number, e.Step, e.Err) }

// Unwrap is the cause.
func (e *StepError) Unwrap() error { return e.Err }

// Options of a lap; the zero value is ready for use.
type Options struct {
	// Tell is told each step as it begins, with its number, and with -1 what happens in it. Called from one goroutine.
	Tell func(step int, text string)
	// PerSecond is how many requests the users send while a canary is watched, otherwise a tenth of it; 400 when zero.
	PerSecond int
	// Patience multiplies the time limits of the steps; 1 when zero.
	Patience float64
	// Person is by which name, and through which client, somebody of the lap speaks: where a gateway knows who its callers
	// are, none speaks for another. Nil: the lap's own client speaks for all, by their plain names.
	Person func(ctx context.Context, name string) (who string, client *api.Client, err error)
	// Pager is where the messages of incidents are listened for, host:port; empty: a free port on loopback. PagerHost is the
	// name by which the installation reaches it; empty: as it is listened on.
	Pager, PagerHost string
}

// Result is what a lap leaves behind.
type Result struct {
	Chain    string         // the turn of the loop that the first sentence began
	Events   []events.Event // of the project, in order
	URL      string         // of the service in the last environment
	Requests int64          // that users sent
	Failed   int64          // of them
	Served   bool           // the baseline came to its users; only then is there more than a partial lap
}

// Lap is one turn of the loop. It is run once.
type Lap struct {
	client  *api.Client
	subject Subject
	options Options
	run     string // tells its claims from those of other laps

	journal *journal
	pager   *pager
	traffic *traffic

	served     bool
	url        string
	chain      string // of the first sentence
	item, wish string // the work items
	incident   events.Event
}

// New prepares a lap. The configuration of the subject is taken as it is, but for the rota, which gets the lap's pager.
func New(client *api.Client, s Subject, o Options) *Lap {
	if o.Tell == nil {
		o.Tell = func(int, string) {}
	}
	if o.PerSecond <= 0 {
		o.PerSecond = 400
	}
	if o.Patience <= 0 {
		o.Patience = 1
	}
	if o.Person == nil {
		o.Person = func(_ context.Context, name string) (string, *api.Client, error) { return name, client, nil }
	}
	return &Lap{client: client, subject: s, options: o, run: "lap-" + strings.ToLower(rand.Text()[:8]), journal: newJournal()}
}

type step struct {
	name  string
	limit time.Duration
	do    func(*Lap, context.Context) error
}

// The steps have the numbers of the seven that the loop is described by; the preparation is none of them. Where something is
// compiled, the limit allows for a cold build cache on a busy machine: the standard library takes minutes then.
var steps = []step{
	{"a project, a repository, and what serves today", 5 * time.Minute, (*Lap).prepare},
	{"users, a stakeholder and a case study speak", 15 * time.Second, (*Lap).listen},
	{"work items, a ranked backlog, a release", 15 * time.Second, (*Lap).plan},
	{"a change for the first item, reviewed", 15 * time.Second, (*Lap).develop},
	{"merged, tested, packaged, pushed by digest", 3 * time.Minute, (*Lap).integrate},
	{"through the environments, to a part of the users, to all", 90 * time.Second, (*Lap).deliver},
	{"a change that fails under traffic: caught, told, taken back", 4 * time.Minute, (*Lap).fail},
	{"figures, a lesson, a new order: the lap closes", 15 * time.Second, (*Lap).learn},
}

// Run turns the loop once. The error is a [*StepError]; it wraps [ErrPartial] when the repository serves nothing. The
// result holds what there was in any case.
func (l *Lap) Run(ctx context.Context) (Result, error) {
	pager, err := startPager(l.options.Pager, l.options.PagerHost)
	if err != nil {
		return Result{}, err
	}
	l.pager = pager
	defer func() { _ = pager.close() }()
	l.traffic = newTraffic(l.subject)
	defer l.traffic.end()

	following, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.journal.end(l.client.Follow(following, api.Query{Project: l.subject.Project.Name}, func(e events.Event) error {
			l.journal.add(e)
			return nil
		}))
	}()
	err = l.steps(ctx)
	stop()
	<-ended
	return Result{Chain: l.chain, Events: l.journal.snapshot(), URL: l.url, Served: l.served,
		Requests: l.traffic.requests.Load(), Failed: l.traffic.failed.Load()}, err
}

func (l *Lap) steps(ctx context.Context) error {
	for n, s := range steps {
		if n == 5 && !l.served {
			return &StepError{n, s.name, ErrPartial}
		}
		l.options.Tell(n, s.name)
		limit := time.Duration(float64(s.limit) * l.options.Patience)
		bounded, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %s", limit))
		err := s.do(l, bounded)
		cancel()
		if err != nil {
			return &StepError{n, s.name, err}
		}
	}
	return nil
}

// tell reports what happened within a step.
func (l *Lap) tell(format string, args ...any) { l.options.Tell(-1, fmt.Sprintf(format, args...)) }

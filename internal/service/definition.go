package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Rules are the decisions of one kind of aggregate, as three pure functions: no I/O, no clock,
// no chance. The same state, configuration and event always give the same answer; the proof
// of the runtime, and every replay, rest on it.
type Rules[S any] struct {
	// Kind names the aggregate: "item", "rollout". Unique within its phase.
	Kind string
	// Version of the fold. Raise it when Evolve or S change meaning: saved folds are then rebuilt.
	Version int
	// Takes lists the facts, of any phase, that Route may answer to. Claims and results of the
	// service's own phase are always offered.
	Takes []events.Type
	// Route names the aggregates, by key, that an event concerns; nil when it concerns none.
	Route func(p events.Project, e events.Event) []string
	// Evolve folds a fact of this aggregate into its state. Total: it never fails. It is asked before
	// the fact is published, so the fact has no place yet (Sequence, Stored). A panic makes the cause
	// a dead letter; on a fact that stands on the stream, it breaks the aggregate.
	Evolve func(s S, fact events.Event) S
	// Decide says what the event makes of the aggregate with this key: at most one fact. What
	// follows from that fact is decided when the service meets it as the next event. A claim that
	// gets no fact is refused by the runtime as one that changes nothing.
	Decide func(key string, s S, p events.Project, e events.Event) (events.Fact, bool)
}

// Aggregate is [Rules] without its type parameter, for the runtime.
type Aggregate struct {
	kind    string
	version int
	takes   []events.Type
	route   func(events.Project, events.Event) []string
	evolve  func(state any, fact events.Event) any
	decide  func(key string, state any, p events.Project, e events.Event) (events.Fact, bool)
	encode  func(state any) ([]byte, error)
	decode  func([]byte) (any, error)
}

// Kind names the aggregate.
func (a Aggregate) Kind() string { return a.kind }

// Routes names the aggregates that an event of the phase's stream is a cause for: any claim or result of the phase, and the
// facts that the rules take.
func (a Aggregate) Routes(phase events.Phase, p events.Project, e events.Event) []string {
	if e.Kind == events.Stated && !slices.Contains(a.takes, e.Type) || e.Kind != events.Stated && e.Phase != phase {
		return nil
	}
	return a.route(p, e)
}

// Decide asks the rules; state is nil for an aggregate that has stated nothing.
func (a Aggregate) Decide(key string, state any, p events.Project, e events.Event) (events.Fact, bool) {
	return a.decide(key, state, p, e)
}

// Evolve folds a fact into a state.
func (a Aggregate) Evolve(state any, fact events.Event) any { return a.evolve(state, fact) }

// Encode renders a state as it is saved; [Aggregate.Decode] reads it again.
func (a Aggregate) Encode(state any) ([]byte, error) { return a.encode(state) }

// Decode reads a saved state.
func (a Aggregate) Decode(saved []byte) (any, error) { return a.decode(saved) }

// Of makes an [Aggregate] of rules. S must survive JSON unchanged: it is saved that way.
func Of[S any](r Rules[S]) Aggregate {
	state := func(v any) S {
		if v == nil {
			var zero S
			return zero
		}
		return v.(S) //nolint:forcetypeassert // the runtime hands back what it was given
	}
	return Aggregate{
		kind: r.Kind, version: r.Version, takes: r.Takes, route: r.Route,
		evolve: func(v any, fact events.Event) any { return r.Evolve(state(v), fact) },
		decide: func(key string, v any, p events.Project, e events.Event) (events.Fact, bool) {
			return r.Decide(key, state(v), p, e)
		},
		encode: func(v any) ([]byte, error) { return json.Marshal(state(v)) },
		decode: func(b []byte) (any, error) {
			var s S
			if err := json.Unmarshal(b, &s); err != nil {
				return nil, fmt.Errorf("decode state of %s: %w", r.Kind, err)
			}
			return s, nil
		},
	}
}

// Effect is work in the world that facts ask for: a build, a deployment, a message. Workers
// share the facts through a durable consumer. It happens at least once: a worker that dies is
// replaced, and the same fact comes again with the next attempt.
type Effect struct {
	// Name of the effect, unique within the phase; part of the durable consumer's name.
	Name string
	// On lists the facts of the service's own phase that ask for it.
	On []events.Type
	// Do does the work and reports results. The error is the verdict: nil is done, a plain error
	// is tried again later with backoff, [events.Retry] after a given time, [events.Reject] never
	// (it goes to the dead letter). A failure that the domain knows (red tests, an unreachable
	// target) is a result, not an error. ctx ends when the service drains.
	Do func(ctx context.Context, job *Job) error
	// Parallel is how many facts one process works on at once; 1 when zero.
	Parallel int
	// OnOwner binds the work to the process that owns the phase, for effects on what that
	// process holds (its child processes, its sockets).
	OnOwner bool

	metrics *effectMetrics
}

// Job is one attempt at the work that a fact asks for.
type Job struct {
	Event   events.Event   // the fact
	Project events.Project // configuration now
	Attempt uint64         // from 1; higher than that of any earlier worker, also after a restore from a backup
	Tries   uint64         // how often the work was begun, from 1; anew after a restore
	report  func(ctx context.Context, r Report) error
}

// Report is a result: what an effect found out, for Decide to make a fact of. Chain and cause
// come from the fact that asked.
type Report struct {
	Content   any
	Key       string       // of the aggregate that it is for; the fact's key when empty
	SubjectID string       // subject.id; the key when empty
	Phase     events.Phase // that decides on it, of those of the process; the service's own when empty
	// Once tells apart several results of one type within one attempt (a tick's number).
	Once string
}

// Report puts a result on the stream. It is there when the error is nil; sent twice with the
// same attempt, type and Once, it is there once.
func (j *Job) Report(ctx context.Context, r Report) error { return j.report(ctx, r) }

// Duty is standing work of the phase's owner that no single fact asks for: probing, converging.
// It runs in the process that owns the phase, for as long as it does.
type Duty struct {
	Name string
	Run  func(ctx context.Context, r *Reporter) error
	// Retire gives up what Run left in the world when it ended by a loss ([Lost]): another process owns the phase by
	// now, or this one stops. It is called in between terms, also when there is nothing to give up; may be nil.
	Retire func()
}

// Lost reports whether a duty's context ended because the phase was lost, or in a fault, and not because the process stops:
// this process may well be the next owner.
func Lost(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return cause != nil && !errors.Is(cause, context.Canceled)
}

// Reporter lets a duty put results on the stream.
type Reporter struct {
	report func(ctx context.Context, project, chain, once string, r Report) error
}

// Report puts a result on the stream; chain may be empty (a new one begins), once identifies
// it: the same string again within the bus's window is the same result.
func (r *Reporter) Report(ctx context.Context, project, chain, once string, rep Report) error {
	return r.report(ctx, project, chain, once, rep)
}

// Projection is a read model of facts in memory: every fact of its types, of any phase, from
// the beginning of the stream, in order, each once in this process. A fact that can not be read, or
// that Apply panics on, is passed over and logged.
type Projection struct {
	Name  string
	On    []events.Type
	Apply func(e events.Event)
	// Save renders the state, and Load puts one in the place of what there is, so that old events may go. Apply does not run
	// meanwhile.
	Save func() ([]byte, error)
	Load func(state []byte) error
}

// Definition is a service, as far as one phase goes.
type Definition struct {
	Phase       events.Phase
	Aggregates  []Aggregate
	Effects     []Effect
	Timers      []events.Type // own facts that may set a deadline ([events.Fact].Timer)
	Duties      []Duty
	Projections []Projection // caught up before effects and duties begin
}

// Timing bounds the runtime; zero fields take the default.
type Timing struct {
	Lease                  time.Duration // 5 s: how long a silent owner is waited for
	Save                   time.Duration // 100 ms between saves of folds and of the floor
	Snapshot               time.Duration // 10 min between snapshots on the bus, where old events go
	Workers                int           // 64, as many as a project has partitions: so many facts are on their way at once
	AckWait                time.Duration // 10 s: silence after which another worker takes an effect over
	BackoffMin, BackoffMax time.Duration // 200 ms to 30 s between attempts of an effect
}

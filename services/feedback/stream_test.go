package feedback

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// A stream in memory that rules are run on as the runtime runs them: causes in order, each fact folded at once,
// own facts met again as causes. It shows what the decisions add up to; that the runtime keeps its order and its
// promises is proved where the runtime is.

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// aggregates are all aggregates of one kind, without the type of their state.
type aggregates struct {
	kind   string
	takes  map[events.Type]bool
	route  func(p events.Project, e events.Event) []string
	decide func(key string, p events.Project, e events.Event) (events.Fact, bool)
	evolve func(t failer, key string, fact events.Event)
	state  func(key string) any
}

func aggregatesOf[S any](r service.Rules[S]) *aggregates {
	states := map[string]S{}
	a := &aggregates{kind: r.Kind, takes: map[events.Type]bool{}, route: r.Route}
	for _, t := range r.Takes {
		a.takes[t] = true
	}
	a.state = func(key string) any { return states[key] }
	a.decide = func(key string, p events.Project, e events.Event) (events.Fact, bool) {
		before := encode(states[key])
		fact, ok := r.Decide(key, states[key], p, e)
		if after := encode(states[key]); before != after {
			panic(fmt.Sprintf("%s: Decide changed the state from %s to %s", r.Kind, before, after))
		}
		return fact, ok
	}
	a.evolve = func(t failer, key string, fact events.Event) {
		t.Helper()
		old := states[key]
		before := encode(old)
		s := r.Evolve(old, fact)
		if after := encode(old); before != after {
			t.Fatalf("%s: Evolve changed the state before, from %s to %s", r.Kind, before, after)
		}
		// The runtime saves states as JSON: what comes back has to be the same.
		var saved S
		if err := json.Unmarshal([]byte(encode(s)), &saved); err != nil {
			t.Fatalf("%s: state does not survive JSON: %v", r.Kind, err)
		}
		if encode(saved) != encode(s) {
			t.Fatalf("%s: state does not survive JSON: %s became %s", r.Kind, encode(s), encode(saved))
		}
		states[key] = saved
	}
	return a
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// stream holds the events and the rules of one phase.
type stream struct {
	phase   events.Phase
	kinds   []*aggregates
	project events.Project
	events  []events.Event
	next    int // index of the next cause
}

func newStream(project events.Project) *stream {
	return &stream{
		phase: events.Learn, project: project,
		kinds: []*aggregates{aggregatesOf(pieces()), aggregatesOf(insights()), aggregatesOf(lessons()), aggregatesOf(deliveries())},
	}
}

var epoch = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// add puts an event at the end, a second after the one before.
func (s *stream) add(e events.Event) events.Event {
	e.Sequence = uint64(len(s.events) + 1)
	e.Stored = epoch.Add(time.Duration(e.Sequence) * time.Second)
	e.Time, e.Project, e.Type = e.Stored, s.project.Name, events.TypeOf(e.Content)
	if e.ID == "" {
		e.ID = fmt.Sprintf("e%d", e.Sequence)
	}
	if e.Phase == "" {
		entry, _ := events.Lookup(e.Type)
		if e.Phase = entry.Phase; e.Phase == "" {
			e.Phase = s.phase
		}
	}
	if e.Source == "" {
		e.Source = "/" + string(e.Kind)
	}
	if e.SubjectID == "" {
		e.SubjectID = e.Key
	}
	s.events = append(s.events, e)
	return e
}

// concerns names the aggregates of a kind that an event is a cause for.
func (s *stream) concerns(a *aggregates, e events.Event) []string {
	own := e.Kind != events.Stated && e.Phase == s.phase
	if own || e.Kind == events.Stated && a.takes[e.Type] {
		return a.route(s.project, e)
	}
	return nil
}

// run decides over all causes that are left, those that it adds included.
func (s *stream) run(t failer) {
	t.Helper()
	for ; s.next < len(s.events); s.next++ {
		if len(s.events) > 100_000 {
			t.Fatalf("the facts do not come to an end: the last is %s", s.events[len(s.events)-1].Type)
		}
		cause := s.events[s.next]
		answered := false
		for _, a := range s.kinds {
			for _, key := range s.concerns(a, cause) {
				if fact, ok := a.decide(key, s.project, cause); ok {
					answered = true
					s.state(t, a, key, cause, fact)
				}
			}
		}
		// The runtime's own word on a claim that changes nothing.
		if cause.Kind == events.Claim && cause.Phase == s.phase && !answered {
			fact, _ := events.Refuse(cause, "it changes nothing")
			s.add(events.Event{Kind: events.Stated, Key: cause.Key, Content: fact.Content, Cause: cause.ID, CauseSequence: cause.Sequence})
		}
	}
}

func (s *stream) state(t failer, a *aggregates, key string, cause events.Event, f events.Fact) {
	t.Helper()
	e := events.Event{
		Kind: events.Stated, Aggregate: a.kind, Key: key, Content: f.Content, SubjectID: f.SubjectID, Phase: s.phase,
		Cause: cause.ID, CauseSequence: cause.Sequence, ConfigRevision: s.project.Revision,
		Chain: f.Chain, Links: append([]events.Link{{Type: events.Path, Context: cause.ID}}, f.Links...),
	}
	if e.Chain == "" {
		e.Chain = cause.Chain
	}
	if f.Timer > 0 {
		e.Deadline = cause.Stored.Add(f.Timer)
	}
	if events.TypeOf(f.Content) == "" {
		t.Fatalf("%s states %T, which the catalogue does not know", a.kind, f.Content)
	}
	e = s.add(e)
	// What stands on the stream is bytes: decide and fold only what survives them.
	wire, err := events.EncodeStructured(e)
	if err != nil {
		t.Fatalf("%v", err)
	}
	back, _, err := events.DecodeStructured(wire)
	if err != nil {
		t.Fatalf("%v", err)
	}
	back.Stored = e.Stored
	if !reflect.DeepEqual(encode(back.Content), encode(e.Content)) {
		t.Fatalf("%s does not survive the wire: %s became %s", e.Type, encode(e.Content), encode(back.Content))
	}
	s.events[len(s.events)-1] = back
	a.evolve(t, key, back)
}

// facts lists the contents of the facts of a type, in order.
func facts[C any](s *stream) []C {
	var out []C
	for _, e := range s.events {
		if c, ok := e.Content.(C); ok && e.Kind == events.Stated {
			out = append(out, c)
		}
	}
	return out
}

func claim(key string, content any) events.Event {
	return events.Event{Kind: events.Claim, Key: key, Principal: "ann", Content: content}
}

func fact(key string, content any) events.Event {
	return events.Event{Kind: events.Stated, Key: key, Content: content}
}

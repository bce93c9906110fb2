// Package rulestest runs the rules of services on a stream in memory, as the runtime runs them: causes in order, each fact
// folded at once, own facts met again as causes. It shows what decisions add up to; that the runtime keeps its order and its
// promises is proved where the runtime is. For tests.
//
//	s := rulestest.New(events.DefaultProject("shop"), planner.New())
//	s.Add(rulestest.Claim("wish", events.TicketCreated{…}))
//	s.Run(t)
//	ranked := rulestest.Last[events.BacklogRanked](t, s)
//
// It fails a test whose rules change a state that they were given, state what does not survive the wire, or have a state
// that does not survive JSON. [Histories] replays what a stream once held.
package rulestest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// T is what of testing.T, and of rapid's, is used here.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Epoch is when the stream began; each event is stored a second after the one before.
var Epoch = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// Stream holds events of one project, in order, and the rules that decide on them.
type Stream struct {
	Project events.Project // in force now; a configuration that is stated replaces it
	Events  []events.Event

	definitions []service.Definition
	states      map[place]any
	next        int // index of the next cause
}

// place is an aggregate.
type place struct {
	phase     events.Phase
	kind, key string
}

// New is an empty stream.
func New(p events.Project, definitions ...service.Definition) *Stream {
	return &Stream{Project: p, definitions: definitions, states: map[place]any{}}
}

// Claim is something that the outside says; its principal is ann.
func Claim(key string, content any) events.Event {
	return events.Event{Kind: events.Claim, Key: key, Principal: "ann", Content: content}
}

// Fact is a fact of another service.
func Fact(key string, content any) events.Event {
	return events.Event{Kind: events.Stated, Key: key, Content: content}
}

// Result is something that a service tells itself.
func Result(phase events.Phase, key string, content any) events.Event {
	return events.Event{Kind: events.Result, Phase: phase, Key: key, Attempt: 1, Content: content}
}

// Add puts an event at the end, with the id and the other attributes that it leaves out.
func (s *Stream) Add(e events.Event) events.Event {
	e.Sequence = uint64(len(s.Events) + 1)
	e.Stored = Epoch.Add(time.Duration(e.Sequence) * time.Second)
	e.Time, e.Project, e.Type = e.Stored, s.Project.Name, events.TypeOf(e.Content)
	if e.ID == "" {
		e.ID = fmt.Sprintf("e%d", e.Sequence)
	}
	if e.Phase == "" {
		entry, _ := events.Lookup(e.Type)
		if e.Phase = entry.Phase; e.Phase == "" {
			e.Phase = s.definitions[0].Phase
		}
	}
	if e.Source == "" {
		e.Source = "/" + string(e.Kind)
	}
	if e.SubjectID == "" {
		e.SubjectID = e.Key
	}
	s.Events = append(s.Events, e)
	return e
}

// Run decides over all causes that are left, those that it adds included.
func (s *Stream) Run(t T) {
	t.Helper()
	for ; s.next < len(s.Events); s.next++ {
		if len(s.Events) > 100_000 {
			t.Fatalf("the facts do not come to an end: the last is %s", s.Events[len(s.Events)-1].Type)
		}
		cause := s.Events[s.next]
		var asked, answered bool
		s.each(cause, func(d service.Definition, a service.Aggregate, key string) {
			asked = true
			if f, ok := s.decide(t, d, a, key, cause); ok {
				answered = true
				s.state(t, d, a, key, cause, f)
			}
		})
		if cause.Kind == events.Claim && !answered && (asked || s.runs(cause.Phase)) { // the runtime's own word
			f, _ := events.Refuse(cause, "it changes nothing")
			s.Add(events.Event{Kind: events.Stated, Key: cause.Key, Content: f.Content, Cause: cause.ID, CauseSequence: cause.Sequence})
		}
	}
}

func (s *Stream) runs(phase events.Phase) bool {
	for _, d := range s.definitions {
		if d.Phase == phase {
			return true
		}
	}
	return false
}

// each calls do with all aggregates that a cause concerns.
func (s *Stream) each(cause events.Event, do func(d service.Definition, a service.Aggregate, key string)) {
	for _, d := range s.definitions {
		for _, a := range d.Aggregates {
			for _, key := range a.Routes(d.Phase, s.Project, cause) {
				do(d, a, key)
			}
		}
	}
}

func (s *Stream) decide(t T, d service.Definition, a service.Aggregate, key string, cause events.Event) (events.Fact, bool) {
	t.Helper()
	state := s.states[place{d.Phase, a.Kind(), key}]
	before := encode(t, a, state)
	f, ok := a.Decide(key, state, s.Project, cause)
	if after := encode(t, a, state); before != after {
		t.Fatalf("%s: Decide changed the state from %s to %s", a.Kind(), before, after)
	}
	return f, ok
}

// evolve folds a fact that stands on the stream.
func (s *Stream) evolve(t T, d service.Definition, a service.Aggregate, fact events.Event) {
	t.Helper()
	at := place{d.Phase, a.Kind(), fact.Key}
	old := s.states[at]
	before := encode(t, a, old)
	state := a.Evolve(old, fact)
	if after := encode(t, a, old); before != after {
		t.Fatalf("%s: Evolve changed the state before, from %s to %s", a.Kind(), before, after)
	}
	// The runtime saves states as JSON: what comes back has to be the same.
	saved, err := a.Decode([]byte(encode(t, a, state)))
	if err != nil {
		t.Fatalf("%s: state does not survive JSON: %v", a.Kind(), err)
	}
	if before, after := encode(t, a, state), encode(t, a, saved); before != after {
		t.Fatalf("%s: state does not survive JSON: %s became %s", a.Kind(), before, after)
	}
	s.states[at] = saved
	if c, ok := fact.Content.(events.ProjectConfigured); ok {
		s.Project = c.Project
		s.Project.Revision = c.Revision
	}
}

// state puts a fact on the stream, as the runtime does, and folds it.
func (s *Stream) state(t T, d service.Definition, a service.Aggregate, key string, cause events.Event, f events.Fact) {
	t.Helper()
	e := events.Event{
		Kind: events.Stated, Aggregate: a.Kind(), Key: key, Content: f.Content, SubjectID: f.SubjectID, Phase: d.Phase,
		Principal: cause.Principal, Cause: cause.ID, CauseSequence: cause.Sequence, ConfigRevision: s.Project.Revision, Attempt: cause.Attempt,
		Chain: f.Chain, Links: append([]events.Link{{Type: events.Path, Context: cause.ID}}, f.Links...),
	}
	if e.Chain == "" {
		e.Chain = cause.Chain
	}
	if f.Timer > 0 {
		e.Deadline = cause.Stored.Add(f.Timer)
	}
	if events.TypeOf(f.Content) == "" {
		t.Fatalf("%s states %T, which the catalogue does not know", a.Kind(), f.Content)
	}
	e = s.Add(e)
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
	if sent, came := Text(e.Content), Text(back.Content); sent != came {
		t.Fatalf("%s does not survive the wire: %s became %s", e.Type, sent, came)
	}
	s.Events[len(s.Events)-1] = back
	s.evolve(t, d, a, back)
}

func encode(t T, a service.Aggregate, state any) string {
	t.Helper()
	b, err := a.Encode(state)
	if err != nil {
		t.Fatalf("%s: state does not survive JSON: %v", a.Kind(), err)
	}
	return string(b)
}

// Text is all of a content, with what travels in customData, for comparison.
func Text(content any) string {
	if content == nil {
		return ""
	}
	body, err := events.Event{Content: content}.AppendBody(nil)
	if err != nil {
		return err.Error()
	}
	var parsed struct {
		Subject    json.RawMessage `json:"subject"`
		CustomData json.RawMessage `json:"customData"`
	}
	if err := json.Unmarshal(body, &parsed); err != nil {
		return err.Error()
	}
	if string(parsed.CustomData) == `{"lemnis":{}}` { // as good as none
		parsed.CustomData = nil
	}
	return string(parsed.Subject) + string(parsed.CustomData)
}

// Facts lists the contents of the facts of a type, in order.
func Facts[C any](s *Stream) []C {
	var out []C
	for _, e := range s.Events {
		if c, ok := e.Content.(C); ok && e.Kind == events.Stated {
			out = append(out, c)
		}
	}
	return out
}

// Last is the content of the last fact of a type.
func Last[C any](t T, s *Stream) C {
	t.Helper()
	all := Facts[C](s)
	if len(all) == 0 {
		var none C
		t.Fatalf("no fact %T", none)
		return none
	}
	return all[len(all)-1]
}

// CheckAnswers fails the test unless every claim of the stream's phases got an answer, and every aggregate stated at most
// one fact for a cause, in the causes' order.
func (s *Stream) CheckAnswers(t T) {
	t.Helper()
	answered, latest := map[uint64]bool{}, map[place]uint64{}
	for _, e := range s.Events {
		if e.Kind != events.Stated || e.CauseSequence == 0 {
			continue
		}
		answered[e.CauseSequence] = true
		if e.Aggregate == "" {
			continue
		}
		at := place{e.Phase, e.Aggregate, e.Key}
		if e.CauseSequence <= latest[at] {
			t.Fatalf("%s/%s states %s for cause %d after one for %d", e.Aggregate, e.Key, e.Type.Short(), e.CauseSequence, latest[at])
		}
		latest[at] = e.CauseSequence
	}
	for _, e := range s.Events {
		if e.Kind == events.Claim && s.runs(e.Phase) && !answered[e.Sequence] {
			t.Fatalf("claim %d of %s by %s gets no answer", e.Sequence, e.Type.Short(), e.Principal)
		}
	}
}

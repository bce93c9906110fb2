// Package rollouttest is a stream in memory with the rollout aggregates on it: what is put there is decided at once and
// in order, own facts come back as causes, as the runtime does it. For tests.
package rollouttest

import (
	"fmt"
	"sync"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

// Stream is safe for use from several goroutines. Facts are handed to Each in order, under the stream's lock.
type Stream struct {
	Project events.Project
	// Now is the stream's clock; nil: it stands still.
	Now  func() time.Time
	Each func(fact events.Event)

	mu      sync.Mutex
	last    uint64
	queue   []events.Event
	states  map[string]rollout.State
	Log     []events.Event // facts, in order
	results map[string]bool
}

// Configure has everything that is put from now on decided for another configuration of the project.
func (s *Stream) Configure(p events.Project) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Project = p
}

// Configured is the project as it is decided for.
func (s *Stream) Configured() events.Project {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Project
}

// Put adds a claim, a result or another phase's fact, and decides until nothing follows any more. It returns the
// facts that it led to.
func (s *Stream) Put(kind events.Kind, key, principal string, content any) []events.Event {
	return s.put(events.Event{Kind: kind, Key: key, SubjectID: key, Principal: principal, Content: content})
}

// Report adds a result of an effect; the same identity again is ignored, as the bus does.
func (s *Stream) Report(identity string, e events.Event) {
	s.mu.Lock()
	if s.results == nil {
		s.results = map[string]bool{}
	}
	seen := s.results[identity]
	s.results[identity] = true
	s.mu.Unlock()
	if !seen {
		e.Kind = events.Result
		s.put(e)
	}
}

func (s *Stream) put(e events.Event) []events.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Chain == "" {
		e.Chain = fmt.Sprintf("chain-%d", s.last+1)
	}
	from := len(s.Log)
	s.meet(s.stamp(e))
	return append([]events.Event(nil), s.Log[from:]...)
}

// Meet decides what follows from a fact that was restored: the last one, where its owner was killed before anything did.
func (s *Stream) Meet(fact events.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meet(fact)
}

func (s *Stream) meet(cause events.Event) {
	s.queue = append(s.queue, cause)
	for len(s.queue) > 0 {
		cause := s.queue[0]
		s.queue = s.queue[1:]
		for _, key := range rollout.Route(s.Project, cause) {
			s.decide(key, cause)
		}
	}
}

func (s *Stream) stamp(e events.Event) events.Event {
	s.last++
	e.Sequence, e.Project, e.Type = s.last, s.Project.Name, events.TypeOf(e.Content)
	if s.Now != nil {
		e.Stored = s.Now().UTC()
	}
	if e.ID == "" {
		e.ID = fmt.Sprintf("e-%d", s.last)
	}
	if e.Phase == "" {
		e.Phase = events.Deploy
		if entry, _ := events.Lookup(e.Type); entry.Phase != "" {
			e.Phase = entry.Phase
		}
	}
	return e
}

func (s *Stream) decide(key string, cause events.Event) {
	fact, ok := rollout.Decide(key, s.states[key], s.Project, cause)
	if !ok {
		return
	}
	e := s.stamp(events.Event{
		Kind: events.Stated, Aggregate: rollout.Kind, Key: key, Phase: events.Deploy, Principal: cause.Principal, Time: cause.Stored,
		Cause: cause.ID, Chain: fact.Chain, Links: fact.Links, SubjectID: fact.SubjectID, Content: fact.Content, Attempt: cause.Attempt,
	})
	if e.Chain == "" {
		e.Chain = cause.Chain
	}
	if e.SubjectID == "" {
		e.SubjectID = key
	}
	if fact.Timer > 0 {
		e.Deadline = cause.Stored.Add(fact.Timer)
	}
	if s.states == nil {
		s.states = map[string]rollout.State{}
	}
	s.states[key] = rollout.Evolve(s.states[key], e)
	s.Log = append(s.Log, e)
	s.queue = append(s.queue, e)
	if s.Each != nil {
		s.Each(e)
	}
}

// Restore folds facts that an earlier stream stated, as a new owner does.
func (s *Stream) Restore(facts []events.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states = map[string]rollout.State{}
	for _, f := range facts {
		s.states[f.Key] = rollout.Evolve(s.states[f.Key], f)
		s.last = max(s.last, f.Sequence)
	}
	s.Log = append([]events.Event(nil), facts...)
}

// State of an aggregate now.
func (s *Stream) State(key string) rollout.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states[key]
}

// Facts so far.
func (s *Stream) Facts() []events.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]events.Event(nil), s.Log...)
}

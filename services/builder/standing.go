package builder

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/forge"
)

// standings is the read model of how the heads of changes fare. Forges are told what it says at the time, and not what the fact says that has
// them told: so whatever comes late, twice or out of its order says nothing that is not true any more.
type standings struct {
	mu    sync.Mutex
	heads map[headAt]standing
	seen  uint64 // sequence of the last fact
}

type headAt struct {
	Project    string `json:"project"`
	Repository string `json:"repository"`
	Head       string `json:"head"`
}

// standing is how a head fares.
type standing struct {
	Change string      `json:"change"`
	Round  int         `json:"round,omitempty"`
	Branch string      `json:"branch,omitempty"` // the ref of a change from a fork
	State  forge.State `json:"state"`
	Words  string      `json:"words,omitempty"`
	Chain  string      `json:"chain,omitempty"`
	Faulty bool        `json:"faulty,omitempty"` // its last run met a fault of the machinery
	Over   bool        `json:"over,omitempty"`   // it has left the queue
	At     uint64      `json:"at"`               // sequence of the last fact that forges are told of
}

func newStandings() *standings { return &standings{heads: map[headAt]standing{}} }

// toForges are the facts that forges are told of.
var toForges = []events.Type{
	events.TypeOf(events.QueueEntered{}), events.TypeOf(events.PipelineRunStarted{}), events.TypeOf(events.QueueTested{}),
	events.TypeOf(events.QueueEjected{}), events.TypeOf(events.ChangeMerged{}),
}

// headsOf lists the heads that a fact is about.
func headsOf(content any) []events.MergeDetail {
	run := func(d events.RunDetail) []events.MergeDetail {
		if len(d.Changes) > 0 {
			return d.Changes
		}
		return []events.MergeDetail{d.Merge}
	}
	switch c := content.(type) {
	case events.QueueEntered:
		return []events.MergeDetail{c.Merge}
	case events.PipelineRunStarted:
		return run(c.Lemnis)
	case events.PipelineRunFinished:
		return run(c.Lemnis)
	case events.QueueTested:
		return []events.MergeDetail{c.Merge}
	case events.QueueEjected:
		return []events.MergeDetail{c.Merge}
	case events.ChangeMerged:
		return []events.MergeDetail{c.Lemnis}
	}
	return nil
}

func (s *standings) apply(e events.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = max(s.seen, e.Sequence)
	all := headsOf(e.Content)
	for _, m := range all {
		at := headAt{e.Project, m.Repository, m.Head}
		old, there := s.heads[at]
		now, changed := old.follow(e, m, there, len(all))
		if !changed || m.Head == "" {
			continue
		}
		now.Change, now.Round = m.Change, m.Round
		if slices.Contains(toForges, events.TypeOf(e.Content)) {
			now.At = e.Sequence
		}
		now.Branch, now.Chain = cmp.Or(m.Ref, m.Branch, old.Branch), cmp.Or(e.Chain, old.Chain)
		if len(now.Words) > longestWords {
			now.Words = strings.ToValidUTF8(now.Words[:longestWords], "")
		}
		s.heads[at] = now
	}
	s.forget()
}

// longestWords is more than any forge takes.
const longestWords = 1024

// follow says what a fact makes of a standing. What is about another round, or about another change with the same head, makes nothing of it.
func (s standing) follow(e events.Event, m events.MergeDetail, there bool, together int) (standing, bool) {
	same := there && s.Change == m.Change && s.Round == m.Round && !s.Over
	goes := same && s.State != forge.Success // what passed is not tested any more
	switch c := e.Content.(type) {
	case events.QueueEntered:
		words := "waits for its tests"
		if c.Reason != "" {
			words += ": " + c.Reason
		}
		return standing{State: forge.Pending, Words: words}, true
	case events.PipelineRunStarted:
		words := "its tests run: " + e.Key
		if together > 1 {
			words = fmt.Sprintf("its tests run, among %d changes: %s", together, e.Key)
		}
		s.State, s.Words = forge.Running, words
	case events.PipelineRunFinished:
		s.Faulty = c.Outcome == events.Errored && together == 1
	case events.QueueTested:
		s.State, s.Words = forge.Success, fmt.Sprintf("passed in %s, and is being merged", c.Run)
		if c.Waits { // it may be tested again, upon others
			s.State, s.Words = forge.Running, fmt.Sprintf("passed in %s, and waits for its turn", c.Run)
		}
	case events.QueueEjected:
		left := standing{State: forge.Failure, Words: c.Reason, Over: true}
		if s.Faulty {
			left.State = forge.Error
		}
		older := there && s.Change == m.Change && m.Round < s.Round
		return left, !older && (!there || same || s.Over && s.State != forge.Success || s.Change == m.Change && !s.Over)
	case events.ChangeMerged:
		return standing{State: forge.Success, Words: fmt.Sprintf("merged as %.12s", m.Commit), Over: true}, true
	}
	return s, goes
}

// forget forgets those that left first, half of them at once.
func (s *standings) forget() {
	if len(s.heads) <= keptRounds {
		return
	}
	var all []uint64
	for _, one := range s.heads {
		if one.Over {
			all = append(all, one.At)
		}
	}
	if len(all) <= keptRounds {
		return
	}
	slices.Sort(all)
	before := all[len(all)-keptRounds/2]
	maps.DeleteFunc(s.heads, func(_ headAt, one standing) bool { return one.Over && one.At < before })
}

// of is how a head fares; false where it is not known, or forgotten.
func (s *standings) of(at headAt) (standing, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.heads[at]
	return one, ok
}

// beyond reports whether forges are told of a head by a later fact too.
func (s *standings) beyond(at headAt, sequence uint64) bool {
	one, ok := s.of(at)
	return ok && one.At > sequence
}

// behind reports whether a fact was not met yet.
func (s *standings) behind(sequence uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen < sequence
}

// savedStandings are standings as a snapshot has them.
type savedStandings struct {
	Seen  uint64          `json:"seen"`
	Heads []savedStanding `json:"heads"`
}

type savedStanding struct {
	headAt
	standing
}

func (s *standings) save() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := savedStandings{Seen: s.seen}
	for at, one := range s.heads {
		all.Heads = append(all.Heads, savedStanding{at, one})
	}
	return json.Marshal(all)
}

func (s *standings) load(text []byte) error {
	var all savedStandings
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.heads)
	s.seen = all.Seen
	for _, one := range all.Heads {
		s.heads[one.headAt] = one.standing
	}
	return nil
}

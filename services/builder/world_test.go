package builder_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/artifact"
	"github.com/lemnis/lemnis/services/builder/branch"
	"github.com/lemnis/lemnis/services/builder/build"
	"github.com/lemnis/lemnis/services/builder/change"
	"github.com/lemnis/lemnis/services/builder/entry"
	"github.com/lemnis/lemnis/services/builder/loop"
	"github.com/lemnis/lemnis/services/builder/queue"
	"github.com/lemnis/lemnis/services/builder/repository"
	"github.com/lemnis/lemnis/services/builder/run"
)

// world folds and decides as the runtime does, in one goroutine and without a bus: causes in
// stream order, at most one fact for an aggregate and cause, own facts come back.
type world struct {
	project events.Project
	kinds   []kind
	states  map[string][]byte // as JSON: a state has to survive being saved
	log     []events.Event    // claims, results and facts
	next    int               // of log, to be decided
}

type kind struct {
	phase  events.Phase
	name   string
	takes  []events.Type
	route  func(events.Project, events.Event) []string
	decide func(saved []byte, key string, p events.Project, e events.Event) (events.Fact, bool)
	evolve func(saved []byte, fact events.Event) []byte
}

func of[S any](phase events.Phase, name string, takes []events.Type, route func(events.Project, events.Event) []string,
	evolve func(S, events.Event) S, decide func(string, S, events.Project, events.Event) (events.Fact, bool)) kind {
	load := func(saved []byte) (s S) {
		if saved != nil {
			must(json.Unmarshal(saved, &s))
		}
		return s
	}
	return kind{phase: phase, name: name, takes: takes, route: route,
		decide: func(saved []byte, key string, p events.Project, e events.Event) (events.Fact, bool) {
			return decide(key, load(saved), p, e)
		},
		evolve: func(saved []byte, fact events.Event) []byte {
			old := load(saved)
			before, err := json.Marshal(old)
			must(err)
			after, err := json.Marshal(evolve(old, fact))
			must(err)
			if again, err := json.Marshal(old); err != nil || !bytes.Equal(again, before) {
				panic(fmt.Sprintf("%s: Evolve changed the old state: %s to %s", name, before, again))
			}
			return after
		}}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func newWorld(p events.Project) *world {
	return &world{project: p, states: map[string][]byte{}, kinds: []kind{
		of(events.Develop, change.Kind, change.Takes, change.Route, change.Evolve, change.Decide),
		of(events.Develop, branch.Kind, branch.Takes, branch.Route, branch.Evolve, branch.Decide),
		of(events.Develop, loop.Kind, loop.Takes, loop.Route, loop.Evolve, loop.Decide),
		of(events.Integrate, entry.Kind, entry.Takes, entry.Route, entry.Evolve, entry.Decide),
		of(events.Integrate, run.Kind, run.Takes, run.Route, run.Evolve, run.Decide),
		of(events.Integrate, build.Kind, build.Takes, build.Route, build.Evolve, build.Decide),
		of(events.Integrate, artifact.Kind, artifact.Takes, artifact.Route, artifact.Evolve, artifact.Decide),
		of(events.Integrate, queue.Kind, queue.Takes, queue.Route, queue.Evolve, queue.Decide),
		of(events.Integrate, repository.Kind, repository.Takes, repository.Route, repository.Evolve, repository.Decide),
	}}
}

func (w *world) append(e events.Event) events.Event {
	e.Sequence = uint64(len(w.log) + 1)
	e.ID = fmt.Sprintf("e%d", e.Sequence)
	e.Project, e.Type = w.project.Name, events.TypeOf(e.Content)
	e.Stored = time.Unix(1_700_000_000+int64(e.Sequence), 0).UTC()
	if e.Phase == "" {
		row, ok := events.Lookup(e.Type)
		if !ok {
			panic(fmt.Sprintf("no type for %T", e.Content))
		}
		e.Phase = row.Phase
	}
	w.log = append(w.log, e)
	return e
}

func (w *world) claim(key string, content any) events.Event {
	return w.append(events.Event{Kind: events.Claim, Key: key, SubjectID: key, Content: content, Principal: "local"})
}

func (w *world) result(key string, attempt uint64, content any) {
	w.append(events.Event{Kind: events.Result, Key: key, SubjectID: key, Content: content, Attempt: attempt})
}

// step decides one event; false when none is left.
func (w *world) step() bool {
	if w.next == len(w.log) {
		return false
	}
	e := w.log[w.next]
	w.next++
	for _, k := range w.kinds {
		for _, key := range w.concerns(k, e) {
			at := k.name + "/" + key
			f, ok := k.decide(w.states[at], key, w.project, e)
			if !ok {
				continue
			}
			if f.SubjectID == "" {
				f.SubjectID = key
			}
			fact := w.append(events.Event{Kind: events.Stated, Phase: k.phase, Aggregate: k.name, Key: key, SubjectID: f.SubjectID,
				Content: f.Content, Cause: e.ID, CauseSequence: e.Sequence, Attempt: e.Attempt})
			w.states[at] = k.evolve(w.states[at], fact)
		}
	}
	return true
}

// concerns names the aggregates of a kind that an event is offered to.
func (w *world) concerns(k kind, e events.Event) []string {
	if e.Kind == events.Stated && !slices.Contains(k.takes, e.Type) || e.Kind != events.Stated && e.Phase != k.phase {
		return nil
	}
	return k.route(w.project, e)
}

func (w *world) settle() {
	for w.step() {
	}
}

// since lists the facts after a place in the log, each as its short type, kind and key.
func (w *world) since(sequence uint64) []string {
	var out []string
	for _, e := range w.log[sequence:] {
		if e.Kind == events.Stated {
			out = append(out, e.Type.Short()+" "+e.Aggregate+"/"+e.Key)
		}
	}
	return out
}

// last is the youngest fact of a content type.
func last[T any](w *world) (content T, ok bool) {
	for _, e := range slices.Backward(w.log) {
		if c, is := e.Content.(T); is && e.Kind == events.Stated {
			return c, true
		}
	}
	return content, false
}

func count[T any](w *world) (n int) {
	for _, e := range w.log {
		if _, is := e.Content.(T); is && e.Kind == events.Stated {
			n++
		}
	}
	return n
}

// commit is a commit's name, made up of a word.
func commit(word string) string {
	return fmt.Sprintf("%040x", word)[:40]
}

func shop(approvals int) events.Project {
	p := events.DefaultProject("shop")
	p.Review.Approvals = approvals
	p.Repositories = []events.RepositoryRef{{Name: "api", URL: "https://git.example.org/shop/api.git"}}
	return p
}

func proposed(head string) events.ChangeCreated {
	return events.ChangeCreated{Lemnis: events.ChangeDetail{Repository: "api", Title: "Find things", Branch: "find", Head: head, Author: "ann", Item: "T-1"}}
}

func approved(by, head string) events.ChangeReviewed {
	return events.ChangeReviewed{Lemnis: events.Review{Reviewer: by, Verdict: events.Approved, Head: head}}
}

func refusal(e events.Event) string {
	if c, ok := e.Content.(events.ClaimRefused); ok {
		return c.Reason
	}
	return ""
}

func has(text, part string) bool { return strings.Contains(text, part) }

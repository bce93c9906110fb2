package eventstest

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Start is the time of events that state none.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Option sets something of an event that is built.
type Option func(*events.Event)

// Claim builds what somebody outside says: by "ann", about the thing "1" in the project "shop",
// at [Start], unless options say otherwise. Its id derives from all it says, so that equal
// claims have equal ids. It panics when no type is bound to the content.
func Claim(content any, opts ...Option) events.Event {
	return build(events.Claim, content, append([]Option{Principal("ann")}, opts...))
}

// Fact builds what an owning service states; otherwise it is as [Claim], without a principal.
func Fact(content any, opts ...Option) events.Event { return build(events.Stated, content, opts) }

// Result builds what an effect reports, in its first attempt; otherwise it is as [Claim],
// without a principal.
func Result(content any, opts ...Option) events.Event {
	return build(events.Result, content, append([]Option{Attempt(1)}, opts...))
}

func build(kind events.Kind, content any, opts []Option) events.Event {
	t := events.TypeOf(content)
	entry, ok := events.Lookup(t)
	if !ok {
		panic(fmt.Sprintf("eventstest: no event type is bound to content %T", content))
	}
	e := events.Event{
		Kind: kind, Type: t, Content: content, Project: "shop", Phase: entry.Phase, SubjectID: "1", Source: "/eventstest",
		Time: Start, Stored: Start, Chain: "chain",
	}
	if e.Phase == "" {
		e.Phase = events.Plan
	}
	for _, opt := range opts {
		opt(&e)
	}
	if e.Key == "" {
		e.Key = e.SubjectID
	}
	if e.ID == "" {
		said, err := json.Marshal(e)
		if err != nil {
			panic(fmt.Sprintf("eventstest: %v", err))
		}
		body, err := e.AppendBody(said) // Marshal leaves out what travels in customData
		if err != nil {
			panic(fmt.Sprintf("eventstest: %v", err))
		}
		h := fnv.New64a()
		_, _ = h.Write(body)
		e.ID = fmt.Sprintf("%s-%s-%s-%016x", events.KindName(kind), t.Short(), e.Key, h.Sum64())
	}
	return e
}

// ID sets the event's id.
func ID(id string) Option { return func(e *events.Event) { e.ID = id } }

// Key sets the aggregate's key, and with it the subject's id.
func Key(key string) Option { return func(e *events.Event) { e.Key, e.SubjectID = key, key } }

// Subject sets the subject's id alone.
func Subject(id string) Option { return func(e *events.Event) { e.SubjectID = id } }

// Project sets the project.
func Project(name string) Option { return func(e *events.Event) { e.Project = name } }

// Phase sets the phase, of a type that several phases state.
func Phase(p events.Phase) Option { return func(e *events.Event) { e.Phase = p } }

// Principal sets who is held to have said it.
func Principal(name string) Option { return func(e *events.Event) { e.Principal = name } }

// Source sets the source.
func Source(uri string) Option { return func(e *events.Event) { e.Source = uri } }

// Chain sets the turn of the loop that the event is part of.
func Chain(id string) Option { return func(e *events.Event) { e.Chain = id } }

// Attempt sets which attempt of an effect a result reports.
func Attempt(n uint64) Option { return func(e *events.Event) { e.Attempt = n } }

// Links adds links.
func Links(links ...events.Link) Option {
	return func(e *events.Event) { e.Links = append(e.Links, links...) }
}

// At sets both when it happened and when the stream stored it.
func At(t time.Time) Option { return func(e *events.Event) { e.Time, e.Stored = t, t } }

// Sequence sets where on the stream the event stands.
func Sequence(n uint64) Option { return func(e *events.Event) { e.Sequence = n } }

// CausedBy ties the event to its cause, as the runtime does: cause, its sequence, its chain, the
// link to it.
func CausedBy(cause events.Event) Option {
	return func(e *events.Event) {
		e.Cause, e.CauseSequence, e.Chain, e.TraceParent = cause.ID, cause.Sequence, cause.Chain, cause.TraceParent
		e.Links = append(e.Links, events.Link{Type: events.Path, Context: cause.ID})
	}
}

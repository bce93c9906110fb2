package events

import (
	"fmt"
	"reflect"
	"sort"
)

// Entry is one row of the catalogue.
type Entry struct {
	Type  Type
	Phase Phase // empty where the phase is said by the event itself
	// Open says that anyone may claim it; otherwise only the outside owner of the phase.
	Open bool
	// Claimable is false for what only a service may say.
	Claimable bool

	decode func(body []byte, e *Event) error
	zero   any
	extra  int // index of the field that travels in customData, or -1
}

// Zero is an empty value of the entry's content type.
func (e Entry) Zero() any { return e.zero }

var (
	catalogue  = map[Type]*Entry{}
	byContent  = map[reflect.Type]*Entry{}
	shortNames = map[string]Type{}
)

type rule func(*Entry)

// open marks a type that anyone may claim: what people and their tools say.
func open(e *Entry) { e.Open = true }

// internalOnly marks a type that no claim may ask for.
func internalOnly(e *Entry) { e.Claimable = false }

// enter binds a type to its content. It panics on a contradiction: the table is code.
func enter[T any](t Type, p Phase, rules ...rule) {
	var zero T
	rt := reflect.TypeOf(zero)
	e := &Entry{Type: t, Phase: p, Claimable: true, zero: zero, extra: -1, decode: decoder[T]()}
	if f, ok := rt.FieldByName("Lemnis"); ok && len(f.Index) == 1 {
		e.extra = f.Index[0]
	}
	for _, r := range rules {
		r(e)
	}
	if catalogue[t] != nil || byContent[rt] != nil || shortNames[t.Short()] != "" {
		panic(fmt.Sprintf("events: %s is entered twice", t))
	}
	catalogue[t], byContent[rt], shortNames[t.Short()] = e, e, t
}

// Catalogue lists every known type, sorted by name.
func Catalogue() []Entry {
	out := make([]Entry, 0, len(catalogue))
	for _, e := range catalogue {
		out = append(out, *e)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Type < out[j].Type })
	return out
}

// Lookup finds the row of a type.
func Lookup(t Type) (Entry, bool) {
	e, ok := catalogue[t]
	if !ok {
		return Entry{}, false
	}
	return *e, true
}

// TypeOf is the type that the catalogue binds to a content value; empty when it binds none.
func TypeOf(content any) Type {
	if e := byContent[reflect.TypeOf(content)]; e != nil {
		return e.Type
	}
	return ""
}

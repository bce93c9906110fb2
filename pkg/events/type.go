package events

import (
	"fmt"
	"strings"
)

// Type is the full type of a CDEvent: "dev.cdevents.change.merged.0.3.0" or, for what
// CDEvents has no word for, "dev.cdeventsx.lemnis-backlog.ranked.0.1.0".
type Type string

const (
	standardPrefix = "dev.cdevents."
	customPrefix   = "dev.cdeventsx."
)

// split cuts a type into subject, predicate and version.
func (t Type) split() (subject, predicate, version string, ok bool) {
	rest, found := strings.CutPrefix(string(t), standardPrefix)
	if !found {
		if rest, found = strings.CutPrefix(string(t), customPrefix); !found {
			return "", "", "", false
		}
	}
	subject, rest, ok = strings.Cut(rest, ".")
	if !ok {
		return "", "", "", false
	}
	predicate, version, ok = strings.Cut(rest, ".")
	if !ok || strings.Count(version, ".") != 2 {
		return "", "", "", false
	}
	return subject, predicate, version, true
}

// Subject is the third token from the left: "change", "lemnis-backlog".
func (t Type) Subject() string { s, _, _, _ := t.split(); return s }

// Predicate is what happened to the subject: "merged", "ranked".
func (t Type) Predicate() string { _, p, _, _ := t.split(); return p }

// Short is subject and predicate without prefix and version: "change.merged",
// "backlog.ranked". People type it; [ParseType] reads it.
func (t Type) Short() string {
	s, p, _, ok := t.split()
	if !ok {
		return string(t)
	}
	return strings.TrimPrefix(s, "lemnis-") + "." + p
}

// Custom reports whether the type is an extension of CDEvents.
func (t Type) Custom() bool { return strings.HasPrefix(string(t), customPrefix) }

// ParseType finds a type of the catalogue by its full or its short name.
func ParseType(name string) (Type, error) {
	if _, ok := catalogue[Type(name)]; ok {
		return Type(name), nil
	}
	if t, ok := shortNames[name]; ok {
		return t, nil
	}
	if s, p, v, ok := Type(name).split(); ok {
		for _, e := range catalogue {
			if e.Type.Subject() == s && e.Type.Predicate() == p {
				return "", fmt.Errorf("%w: version %s of %s.%s is not supported; this is %s", ErrUnknownType, v, s, p, e.Type)
			}
		}
	}
	return "", fmt.Errorf("%w %q; `lemnis events types` lists them", ErrUnknownType, name)
}

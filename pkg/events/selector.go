package events

import (
	"fmt"
	"slices"
	"strconv"
)

// Selector says which facts are wanted; a zero field wants all.
type Selector struct {
	Project string
	Phase   Phase
	Types   []Type
	Key     string // of the aggregate: one work item, one change, one rollout
}

// subject is the narrowest filter that the server can apply.
func (s Selector) subject() string {
	or := func(token string) string {
		if token == "" {
			return "*"
		}
		return token
	}
	subject, predicate, key := "*", "*", "*"
	if len(s.Types) == 1 {
		subject, predicate = s.Types[0].Subject(), s.Types[0].Predicate()
	}
	if s.Key != "" {
		key = strconv.Itoa(Partition(s.Key)) // as which the stream stores it
	}
	return string(Stated) + "." + or(s.Project) + "." + or(string(s.Phase)) + "." + or(subject) + "." + or(predicate) + "." + key
}

// wants reports whether an event that passed the server's filter is meant.
func (s Selector) wants(e *Event) bool {
	return (len(s.Types) < 2 || slices.Contains(s.Types, e.Type)) && (s.Key == "" || s.Key == e.Key)
}

func (s Selector) check() error {
	if s.Project != "" {
		if err := ValidProject(s.Project); err != nil {
			return err
		}
	}
	if s.Phase != "" && !s.Phase.Valid() {
		return fmt.Errorf("no such phase: %q", s.Phase)
	}
	for _, t := range s.Types {
		if _, err := entryOf(t); err != nil {
			return err
		}
	}
	return nil
}

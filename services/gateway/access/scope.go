package access

import (
	"fmt"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

// Action is what a scope lets somebody do.
type Action string

// The actions.
const (
	Publish Action = "publish"
	Read    Action = "read"
	Decide  Action = "decide"
	Admin   Action = "admin"
)

// Any stands for every phase, environment or project.
const Any = "*"

// Scope is one thing that may be done, or one that is needed. As a need, [Any] means all of them together.
type Scope struct {
	Action  Action
	On      string // publish: a phase; decide: an environment; [Any] for the others
	Project string
}

// Need makes a scope; what is empty is [Any].
func Need(action Action, on, project string) Scope {
	if on == "" {
		on = Any
	}
	if project == "" {
		project = Any
	}
	return Scope{Action: action, On: on, Project: project}
}

// ParseScope reads ACTION[:ON]@PROJECT; admin may go without a project.
func ParseScope(text string) (Scope, error) {
	rest, project, hasProject := strings.Cut(text, "@")
	action, on, hasOn := strings.Cut(rest, ":")
	s := Need(Action(action), on, project)
	switch s.Action {
	case Publish:
		if hasOn && s.On != Any && !events.Phase(s.On).Valid() {
			return Scope{}, fmt.Errorf("scope %q: %q is no phase; there are plan, develop, integrate, deploy, operate, learn", text, s.On)
		}
	case Decide:
		if !hasOn {
			return Scope{}, fmt.Errorf("scope %q names no environment: write decide:ENVIRONMENT@PROJECT, or decide:*@PROJECT", text)
		}
		if s.On != Any && !isName(s.On) {
			return Scope{}, fmt.Errorf("scope %q: %q is no environment's name", text, s.On)
		}
	case Read, Admin:
		if hasOn {
			return Scope{}, fmt.Errorf("scope %q: %s has no %q; write %s@PROJECT", text, action, ":"+on, action)
		}
	default:
		return Scope{}, fmt.Errorf("scope %q is none of publish:PHASE@PROJECT, read@PROJECT, decide:ENVIRONMENT@PROJECT, admin", text)
	}
	switch {
	case hasOn && on == "", hasProject && project == "":
		return Scope{}, fmt.Errorf("scope %q: something is missing behind %q or %q", text, ":", "@")
	case !hasProject && s.Action != Admin:
		return Scope{}, fmt.Errorf("scope %q names no project: write %s@PROJECT, or %s@* for all", text, rest, rest)
	}
	if s.Project != Any {
		if err := events.ValidProject(s.Project); err != nil {
			return Scope{}, fmt.Errorf("scope %q: %w", text, err)
		}
	}
	return s, nil
}

// ParseScopes reads several; there has to be one.
func ParseScopes(texts []string) ([]Scope, error) {
	if len(texts) == 0 {
		return nil, fmt.Errorf("a scope is missing, such as publish:integrate@shop, read@shop, decide:prod@shop or admin")
	}
	scopes := make([]Scope, len(texts))
	for i, text := range texts {
		var err error
		if scopes[i], err = ParseScope(text); err != nil {
			return nil, err
		}
	}
	return scopes, nil
}

// String is what [ParseScope] reads.
func (s Scope) String() string {
	text := string(s.Action)
	if s.On != Any {
		text += ":" + s.On
	} else if s.Action == Decide {
		text += ":" + Any
	}
	if s.Action == Admin && s.Project == Any {
		return text
	}
	return text + "@" + s.Project
}

// MarshalText writes a scope as text.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *Scope) UnmarshalText(text []byte) (err error) {
	*s, err = ParseScope(string(text))
	return err
}

// covers reports whether whoever has s may do what is needed.
func (s Scope) covers(need Scope) bool {
	if s.Project != Any && s.Project != need.Project {
		return false
	}
	return s.Action == Admin || s.Action == need.Action && (s.On == Any || s.On == need.On)
}

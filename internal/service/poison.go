package service

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/lemnis/lemnis/pkg/events"
)

// poisonError says that a cause can not be handled, now or later: decisions are deterministic, so
// that trying again is useless.
type poisonError struct {
	reason string
	stack  []byte // of a panic
}

// Error is the reason and where it happened, for the dead letter.
func (e *poisonError) Error() string { return e.reason + "\n" + string(e.stack) }

// panicked is what a recovered panic of a service's own code means for its cause.
func panicked(what string, r any) *poisonError {
	return &poisonError{reason: fmt.Sprintf("%s: %v", what, r), stack: debug.Stack()}
}

// poisonous makes poison of an error.
func poisonous(err error) *poisonError { return &poisonError{reason: err.Error()} }

// reasonOf leaves the stack of a panic out.
func reasonOf(err error) string {
	var poison *poisonError
	if errors.As(err, &poison) {
		return poison.reason
	}
	return err.Error()
}

// refusal is the answer to a claim that can not be handled.
func (e *poisonError) refusal(claim events.Event) events.Fact {
	fact, _ := events.Refuse(claim, "it can not be handled, and is kept as a dead letter: "+oneLine(e.reason))
	return fact
}

// troubles are what the owner of a phase can not decide on: broken aggregates and stopped
// partitions. Everything else goes on.
type troubles struct {
	mu    sync.Mutex
	known map[string]bool
}

// note keeps a trouble, and reports whether it is new.
func (t *troubles) note(what string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known[what] {
		return false
	}
	if t.known == nil {
		t.known = map[string]bool{}
	}
	t.known[what] = true
	return true
}

func (t *troubles) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.known)
}

func (t *troubles) list() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]string, 0, len(t.known))
	for what := range t.known {
		out = append(out, what)
	}
	slices.Sort(out)
	return out
}

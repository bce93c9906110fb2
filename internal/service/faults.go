package service

import (
	"context"
	"sync"

	"github.com/lemnis/lemnis/pkg/events"
)

// step is a place in the runtime at which the proof lets a process crash.
type step int

const (
	stepReceived step = iota
	stepDecided
	stepPublished
	stepFolded
	stepFloor
	steps
)

// breakage is a rule of the runtime that the proof leaves out, to show that it would notice.
type breakage int

const (
	breakNothing breakage = iota
	breakFence
	breakWatermark
	breakSnapshot // what was purged is taken for never having been
	breakOrder    // a durable consumer that all processes share, instead of one owner's ordered reader
)

// faults is what the proof does to a process. A nil *faults does nothing; production code
// never makes one.
type faults struct {
	mu       sync.Mutex
	unlocked bool                               // crash may be called by several workers at once
	crash    func(s step, e *events.Event) bool // true: the process dies here
	pause    func(s step)                       // blocks as long as the process is stopped
	again    func(m Message) []Message          // messages to meet again after m
	looked   func()                             // a rebuild has seen where the stream begins, and not read it
	leaveOut breakage
	// read replaces the ordered reader, when set.
	read func(ctx context.Context, t *term, filters []string, each func(Message) error) error
}

// crashError ends a process without a drain.
type crashError struct{ at step }

func (*crashError) Error() string { return "crashed by the proof" }

func (f *faults) at(s step, e *events.Event) error {
	if f == nil {
		return nil
	}
	if f.pause != nil {
		f.pause(s)
	}
	if f.crash != nil {
		if !f.unlocked {
			f.mu.Lock()
			defer f.mu.Unlock()
		}
		if f.crash(s, e) {
			return &crashError{s}
		}
	}
	return nil
}

func (f *faults) redeliver(m Message, meet func(Message) error) error {
	if f == nil || f.again == nil {
		return nil
	}
	for _, again := range f.again(m) {
		if err := meet(again); err != nil {
			return err
		}
	}
	return nil
}

func (f *faults) hasLooked() {
	if f != nil && f.looked != nil {
		f.looked()
	}
}

func (f *faults) broken(b breakage) bool { return f != nil && f.leaveOut == b }

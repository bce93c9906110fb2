package gateway

import (
	"context"

	"github.com/lemnis/lemnis/internal/service"
)

// step is what the writer of the index is told: a message, or that the end of the stream was met.
type step struct {
	message  service.Message
	caughtUp bool
}

// intake takes steps to the writer of the index.
type intake struct {
	steps chan step
	left  chan struct{} // closed when nobody takes them any more
	torn  chan struct{} // closed when one was not given, and none will be any more
}

func newIntake() *intake {
	return &intake{steps: make(chan step, 2*indexBatch), left: make(chan struct{}), torn: make(chan struct{})}
}

// leave is called once, by whoever takes the steps.
func (in *intake) leave() { close(in.left) }

func (in *intake) gone() bool {
	select {
	case <-in.left:
		return true
	default:
		return false
	}
}

// give waits until the step is taken; false when nobody will.
func (in *intake) give(ctx context.Context, s step) bool {
	select {
	case in.steps <- s:
		return true
	case <-in.left:
	case <-ctx.Done():
	}
	return false
}

// offer gives a step that there is room for; else nothing more is given.
func (in *intake) offer(s step) bool {
	if in.gone() {
		return false
	}
	select {
	case in.steps <- s:
		return true
	default:
		close(in.torn)
		return false
	}
}

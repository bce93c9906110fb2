package subscription

import (
	"context"
	"sync"
	"time"
)

// senderCount is how many receivers that answer at once are sent to at a time.
const senderCount = 16

// senders are goroutines that all workers share for what needs a deep stack and is soon done: a worker of its own that only
// waits takes 4 KiB of stack, one that sends by itself 32.
type senders struct {
	jobs chan func()
	all  sync.WaitGroup
}

func newSenders() *senders {
	s := &senders{jobs: make(chan func())}
	for range senderCount {
		s.all.Go(func() {
			for job := range s.jobs {
				job()
			}
		})
	}
	return s
}

// end waits for what is being done; nobody may ask for more.
func (s *senders) end() { close(s.jobs); s.all.Wait() }

// do has a job done and waits for its end; false, and not done, when nobody is free for it for a while, or ctx ends.
func (s *senders) do(ctx context.Context, job func()) bool {
	done := make(chan struct{})
	one := func() { defer close(done); job() }
	select {
	case s.jobs <- one:
		<-done
		return true
	default:
	}
	soon := time.NewTimer(beside)
	defer soon.Stop()
	select {
	case s.jobs <- one:
		<-done
		return true
	case <-soon.C:
	case <-ctx.Done():
	}
	return false
}

// aside does what needs a deep stack in a goroutine of its own, and waits for its end.
func aside(job func()) {
	done := make(chan struct{})
	go func() { defer close(done); job() }()
	<-done
}

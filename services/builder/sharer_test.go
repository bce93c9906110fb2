package builder

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lemnis/lemnis/services/builder/pipeline"
)

// store takes an entry for each value that comes.
type store struct {
	pipeline.Shared
	takes chan error
	began chan struct{}
}

func (s *store) PutEntry(ctx context.Context, _, _ string, _ []byte) error {
	s.began <- struct{}{}
	select {
	case err := <-s.takes:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *store) Trim(context.Context) error { return nil }

// Runs whose results wait to be put are bounded, and that others' are not put is said; that there is no store is nobody's concern.
func TestWhatWaitsToBeSharedIsBounded(t *testing.T) { //nolint:paralleltest // results without a folder leave their marks here
	t.Chdir(t.TempDir())
	var mu sync.Mutex
	var said []string
	s := &sharer{log: func(message string, _ ...any) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, message)
	}}
	to := &store{takes: make(chan error), began: make(chan struct{}, 2*mostUnshared)}
	begun := func(n int) {
		t.Helper()
		for range n {
			select {
			case <-to.began:
			case <-time.After(20 * time.Second):
				t.Fatal("nothing is put")
			}
		}
	}
	run := unsharedRun{ctx: t.Context(), fresh: make(pipeline.Fresh, 1), to: to}
	s.add(run)
	begun(1)
	for range mostUnshared + 2 {
		s.add(run)
	}
	for i := range mostUnshared + 1 {
		if i > 0 {
			begun(1)
		}
		to.takes <- []error{nil, errors.ErrUnsupported}[i%2]
	}
	// It begins again after it has ended; a run whose process is told to end is not put.
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	run.ctx = ended
	s.add(run)
	run.ctx = t.Context()
	s.add(run)
	begun(1)
	to.takes <- errors.ErrUnsupported // the mark of one that is put could come after the test
	mu.Lock()
	defer mu.Unlock()
	if len(said) != 2 || !strings.Contains(said[0], "waits already") {
		t.Errorf("said: %q", said)
	}
}

package builder

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lemnis/lemnis/internal/service"

	"github.com/lemnis/lemnis/services/builder/pipeline"
)

const (
	// sharePatience is how long what one run's steps left may take to be put where other builders find it.
	sharePatience = 30 * time.Second
	// mostUnshared is how many runs' results may wait for that; those of further ones are not put.
	mostUnshared = 16
)

// sharer puts what steps left where other builders find it, one run's after the other, apart from the slots of runs. It ends when
// nothing waits.
type sharer struct {
	log func(message string, keysAndValues ...any)

	mu      sync.Mutex
	waiting []unsharedRun
	busy    bool // somebody is at it
}

type unsharedRun struct {
	ctx          context.Context // of the effect: it ends with the process
	project, run string
	fresh        pipeline.Fresh
	to           pipeline.Shared
}

// unshared is what the steps of one effect left, until its result is told.
type unshared struct {
	runs []unsharedRun
}

type unsharedKey struct{}

// sharing has what an effect's steps left put where other builders find it, once it has told its result: nobody waits for that, and that it
// fails costs others their time only.
func (b *builder) sharing(do func(context.Context, *service.Job) error) func(context.Context, *service.Job) error {
	return func(ctx context.Context, job *service.Job) error {
		left := &unshared{}
		err := do(context.WithValue(ctx, unsharedKey{}, left), job)
		for _, run := range left.runs {
			run.ctx, run.project, run.run = ctx, job.Project.Name, job.Event.Key
			b.sharer.add(run) //nolint:contextcheck // it has the effect's
		}
		return err
	}
}

// unshare notes what a run of the effect left.
func unshare(ctx context.Context, report pipeline.Report, to pipeline.Shared) {
	if left, is := ctx.Value(unsharedKey{}).(*unshared); is && to != nil && len(report.Fresh) > 0 {
		left.runs = append(left.runs, unsharedRun{fresh: report.Fresh, to: to})
	}
}

func (s *sharer) add(run unsharedRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) >= mostUnshared {
		s.log("what steps left is not shared with other builders: that of so many runs waits already", "project", run.project, "run", run.run, "waiting", mostUnshared)
		return
	}
	s.waiting = append(s.waiting, run)
	if !s.busy {
		s.busy = true
		go s.work()
	}
}

func (s *sharer) work() {
	for {
		s.mu.Lock()
		if len(s.waiting) == 0 {
			s.busy = false
			s.mu.Unlock()
			return
		}
		run := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.mu.Unlock()
		s.share(run)
	}
}

func (s *sharer) share(run unsharedRun) {
	if run.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(run.ctx, sharePatience)
	defer cancel()
	err := run.fresh.Share(ctx, run.to)
	if err == nil || run.ctx.Err() != nil || errors.Is(err, errors.ErrUnsupported) { // an installation may do without
		return
	}
	s.log("what steps left is not shared with other builders", "project", run.project, "run", run.run, "error", err)
}

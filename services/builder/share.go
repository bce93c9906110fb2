package builder

import (
	"context"
	"time"

	"github.com/lemnis/lemnis/internal/service"

	"github.com/lemnis/lemnis/services/builder/pipeline"
)

// sharePatience is how long what one effect's steps left may take to be put where other builders find it.
const sharePatience = 30 * time.Second

// unshared is what the steps of one effect left, until its result is told.
type unshared struct {
	runs []sharedRun
}

type sharedRun struct {
	report pipeline.Report
	to     pipeline.Shared
}

type unsharedKey struct{}

// sharing has an effect put what its steps left where other builders find it, once it has told its result: nobody waits for that, and that it
// fails costs others their time only.
func (b *builder) sharing(do func(context.Context, *service.Job) error) func(context.Context, *service.Job) error {
	return func(ctx context.Context, job *service.Job) error {
		left := &unshared{}
		err := do(context.WithValue(ctx, unsharedKey{}, left), job)
		sharing, cancel := context.WithTimeout(ctx, sharePatience)
		defer cancel()
		for _, run := range left.runs {
			if wrong := run.report.Share(sharing, run.to); wrong != nil && ctx.Err() == nil {
				b.options.Log("what steps left is not shared with other builders", "project", job.Project.Name, "run", job.Event.Key, "error", wrong)
			}
		}
		return err
	}
}

// unshare notes what a run of the effect left.
func unshare(ctx context.Context, report pipeline.Report, to pipeline.Shared) {
	if left, is := ctx.Value(unsharedKey{}).(*unshared); is && to != nil {
		left.runs = append(left.runs, sharedRun{report, to})
	}
}

package service

import (
	"context"

	"github.com/lemnis/lemnis/pkg/events"
)

// NewJob is one attempt at the work that the fact asks for, with report as the way back to the
// stream. The runtime makes them; a service's tests do too, to run an effect for real without a
// bus.
func NewJob(fact events.Event, p events.Project, attempt uint64, report func(context.Context, Report) error) *Job {
	return &Job{Event: fact, Project: p, Attempt: attempt, Tries: attempt, report: report}
}

// NewReporter is what a duty reports with. The runtime makes them; a service's tests do too.
func NewReporter(report func(ctx context.Context, project, chain, once string, r Report) error) *Reporter {
	return &Reporter{report: report}
}

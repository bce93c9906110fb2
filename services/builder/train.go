package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/runlog"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/internal/testreport"
	"github.com/lemnis/lemnis/services/builder/git"
	"github.com/lemnis/lemnis/services/builder/pipeline"
	"github.com/lemnis/lemnis/services/builder/queue"
)

// tries is how often the pipeline is run on a commit whose tests fail before they are believed.
const tries = 3

// train tests what the master copy would be with the changes of a train in it, for as long as the repository's queue has a use for it.
func (b *builder) train(ctx context.Context, job *service.Job, queued events.PipelineRunQueued) error {
	d := queued.Lemnis
	started := time.Now()
	running, done := b.runs.watch(ctx, job.Project.Name, d.Merge.Repository, queue.RunNumber(d.Merge.Repository, job.Event.Key))
	defer done()
	log := b.log(ctx, job, runlog.Pipeline)
	defer log.close(false, nil)
	if running.Err() != nil {
		log.end(notNeeded)
		return ctx.Err()
	}
	if err := job.Report(ctx, service.Report{Content: events.PipelineRunStarted{PipelineName: queued.PipelineName, Lemnis: d}}); err != nil {
		return err
	}
	finished := events.PipelineRunFinished{PipelineName: queued.PipelineName, Outcome: events.Success}
	err := spent(job)
	if err == nil {
		err = b.tryTrain(running, job, &d, log)
	} else {
		log.end(err.Error())
	}
	if err != nil && running.Err() != nil { // that it is over is a fact already
		log.end(notNeeded)
		return ctx.Err()
	}
	if err != nil {
		f, result, again := outcome(ctx, job, err)
		if again != nil {
			return again
		}
		finished.Outcome, finished.Errors, d.Conflicts = result, f.reason, f.conflicts
		if f.change != "" && len(d.Assumed)+len(d.Changes) > 1 {
			finished.Errors = fmt.Sprintf("change %s: %s", f.change, f.reason)
		}
	}
	log.close(true, d.Merge.Evidence)
	d.Seconds = time.Since(started).Seconds()
	finished.Lemnis = d
	return job.Report(ctx, service.Report{Content: finished})
}

// tryTrain merges a train on the master copy as it stands, and runs the pipeline on the result; what it finds out goes into d.
func (b *builder) tryTrain(ctx context.Context, job *service.Job, d *events.RunDetail, log *log) error {
	own := slices.Clone(d.Changes)
	repo, master, err := b.source(ctx, job.Project, own[0])
	if err != nil {
		return err
	}
	at := master
	for _, m := range d.Assumed {
		if err := bring(ctx, repo, m); err != nil {
			return ofChange(m, err)
		}
		there, err := repo.Contains(ctx, m.Base, m.Head)
		if err != nil {
			return err
		}
		if there { // merged meanwhile
			continue
		}
		d.Merge.Ref = cmp.Or(d.Merge.Ref, m.Ref)
		if at, _, err = couple(ctx, repo, at, m); err != nil {
			return err
		}
	}
	onto := at
	for i, m := range own {
		if err := reviewed(ctx, repo, m); err != nil {
			return ofChange(m, err)
		}
		if there, err := repo.Contains(ctx, m.Base, m.Head); err != nil {
			return err
		} else if there {
			return ofChange(m, found("head %s is part of %s already: there is nothing to merge", m.Head, m.Base))
		}
		var committed time.Time
		if at, committed, err = couple(ctx, repo, at, m); err != nil {
			return err
		}
		own[i].Committed = committed.Format(time.RFC3339)
		d.Merge.Ref = cmp.Or(d.Merge.Ref, m.Ref) // a fork's files are in all of it
	}
	d.Merge.Onto, d.Merge.Commit = onto, at
	err = b.testTrain(ctx, job, repo, d, own, master, log)
	last := own[len(own)-1].Change
	for i := range own {
		own[i].Onto, own[i].Commit, own[i].Evidence = onto, at, d.Merge.Evidence
		if own[i].Change != last {
			own[i].With = last
		}
	}
	d.Changes = own
	return err
}

// couple merges a change upon a commit.
func couple(ctx context.Context, repo *git.Repository, onto string, m events.MergeDetail) (commit string, committed time.Time, err error) {
	m.Onto = onto
	made, err := mergeCommit(ctx, repo, m)
	if errors.Is(err, git.ErrNotFound) {
		err = found("the repository has no commit %s any more", m.Head)
	}
	return made.commit, made.committed, ofChange(m, err)
}

// ofChange says which change of a train a finding is about.
func ofChange(m events.MergeDetail, err error) error {
	var f *finding
	if errors.As(err, &f) {
		return &finding{reason: f.reason, conflicts: f.conflicts, change: m.Change}
	}
	return err
}

// testTrain runs the pipeline on a train. When tests fail it is run again on the same commit: those that pass then are flaky, and what is left
// after some tries has failed; what was flaky before gets more of them. What fails on the master copy without the train too is not its doing.
func (b *builder) testTrain(ctx context.Context, job *service.Job, repo *git.Repository, d *events.RunDetail, own []events.MergeDetail, master string, log *log) error {
	m := d.Merge
	if m.Change == "" {
		var ids []string
		for _, c := range own {
			ids = append(ids, c.Change)
		}
		m.Change = strings.Join(ids, ",")
	}
	var seen, failing []string // in any try; in all of them
	for try := 1; ; try++ {
		red, err := b.testOnce(ctx, job, repo, d, m, master, seen, nil, log)
		if try == 1 {
			failing = red
		}
		failing = slices.DeleteFunc(slices.Clone(failing), func(name string) bool { return !slices.Contains(red, name) })
		seen = append(seen, red...)
		if err == nil && d.Merge.Evidence != nil {
			slices.Sort(seen)
			d.Merge.Evidence.Flaky = slices.Compact(seen)
		}
		firm := slices.DeleteFunc(slices.Clone(failing), func(name string) bool { return b.tests.flaky(job.Project.Name, m.Repository, name) })
		// As long as no test has failed in all tries, none is known to be more than flaky.
		if f := (*finding)(nil); !errors.As(err, &f) || len(red) == 0 {
			return err
		}
		if try < tries || try < 2*tries && len(firm) == 0 {
			log.say("tests failed: the same commit is tested again, to know those that do so now and then")
			continue
		}
		before, fault := b.redBefore(ctx, job, repo, m, master, failing)
		if fault != nil || len(before) == 0 {
			return cmp.Or(fault, err)
		}
		log.say("these fail on " + m.Base + " too; the same commit is tested again without counting them: " + strings.Join(before, ", "))
		_, err = b.testOnce(ctx, job, repo, d, m, master, nil, before, log)
		return err
	}
}

// testOnce runs the pipeline on a commit once, and names the tests that failed. Seen are those that failed on it before.
func (b *builder) testOnce(ctx context.Context, job *service.Job, repo *git.Repository, d *events.RunDetail, m events.MergeDetail, master string, seen, redBefore []string, log *log) (red []string, err error) {
	report, evidence, leave, err := b.check(ctx, job, log, repo, m, master, redBefore)
	defer leave()
	d.Merge.Evidence = evidence
	d.Tests, d.MoreTests = told(report, seen)
	if err != nil {
		return failedTests(report), err
	}
	if report.Packaged() == "" || m.Ref != "" {
		return nil, nil
	}
	return nil, b.workshop.keep(productOf(job, m, report))
}

func failedTests(report pipeline.Report) (names []string) {
	for _, c := range report.Tests {
		if c.Outcome != testreport.Failed {
			continue
		}
		name := pipeline.FullName(c)
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

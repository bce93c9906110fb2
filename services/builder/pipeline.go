package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lemnis/lemnis/internal/attest"
	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/runlog"
	"github.com/lemnis/lemnis/internal/secret"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/internal/testreport"
	"github.com/lemnis/lemnis/services/builder/definition"
	"github.com/lemnis/lemnis/services/builder/git"
	"github.com/lemnis/lemnis/services/builder/pipeline"
)

// pipeline tests what the master copy would be with the change in it.
func (b *builder) pipeline(ctx context.Context, job *service.Job) error {
	queued, ok := job.Event.Content.(events.PipelineRunQueued)
	if !ok {
		return events.Reject(fmt.Errorf("%T asks for no pipeline run", job.Event.Content))
	}
	if len(queued.Lemnis.Changes) > 0 {
		return b.train(ctx, job, queued)
	}
	m := queued.Lemnis.Merge
	started := time.Now()
	if err := job.Report(ctx, service.Report{Content: events.PipelineRunStarted{
		PipelineName: queued.PipelineName, Lemnis: events.RunDetail{Merge: m}}}); err != nil {
		return err
	}
	finished := events.PipelineRunFinished{PipelineName: queued.PipelineName, Lemnis: events.RunDetail{Merge: m}}
	switch {
	case b.rounds.over(job.Project.Name, m):
		finished.Outcome, finished.Errors = events.Cancelled, "the round was over before its run began"
	default:
		finished.Outcome = events.Success
		log := b.log(ctx, job, runlog.Pipeline)
		defer log.close(false, nil)
		err := spent(job)
		if err == nil {
			err = b.try(ctx, job, &finished.Lemnis, log)
		} else {
			log.end(err.Error())
		}
		if err != nil {
			f, result, again := outcome(ctx, job, err)
			if again != nil {
				return again
			}
			finished.Outcome, finished.Errors, finished.Lemnis.Conflicts = result, f.reason, f.conflicts
		}
		log.close(true, finished.Lemnis.Merge.Evidence)
	}
	finished.Lemnis.Seconds = time.Since(started).Seconds()
	return job.Report(ctx, service.Report{Content: finished})
}

// try merges the change on the master copy as it stands and runs the pipeline on the result; what
// it finds out goes into d.
func (b *builder) try(ctx context.Context, job *service.Job, d *events.RunDetail, log *log) error {
	m := &d.Merge
	repo, master, err := b.source(ctx, job.Project, *m)
	if err != nil {
		return err
	}
	m.Onto = master
	if err := reviewed(ctx, repo, *m); err != nil {
		return err
	}
	made, err := mergeCommit(ctx, repo, *m)
	if err == nil && made.nothing { // what is part of it already changes nothing: else that need not be asked
		var there bool
		if there, err = repo.Ancestor(ctx, m.Head, master); there {
			err = found("head %s is part of %s already: there is nothing to merge", m.Head, m.Base)
		}
	}
	if err != nil {
		return err
	}
	m.Commit, m.Committed = made.commit, made.committed.Format(time.RFC3339)
	report, evidence, leave, err := b.check(ctx, job, log, repo, *m, master, nil)
	defer leave()
	m.Evidence = evidence
	d.Tests, d.MoreTests = told(report, nil)
	if err != nil {
		return err
	}
	if report.Packaged() == "" || m.Ref != "" {
		return nil // a library: it is merged, and its build will say that there is nothing to package; or a fork's, made anew once it is merged
	}
	return b.workshop.keep(productOf(job, *m, report))
}

// check runs the pipeline on a commit in a room of its own; leave gives the room up, and with it
// what is packaged if nobody moved it. That the commit is no good is a finding. A pipeline that
// packages nothing is good; its report holds nothing packaged. Of the tests in redBefore failures do not count.
// base is the commit of the master copy that it was made upon, whose results may be taken; empty: there is none.
// Closing the log, the caller completes the evidence.
func (b *builder) check(ctx context.Context, job *service.Job, log *log, repo *git.Repository, m events.MergeDetail, base string, redBefore []string) (pipeline.Report, *events.Evidence, func(), error) {
	none := func() {}
	room, leave, err := b.workshop.room(string(log.run.Kind)+"\x00"+job.Project.Name+"\x00"+job.Event.Key, job.Attempt)
	if err != nil {
		return pipeline.Report{}, nil, none, err
	}
	tree := filepath.Join(room, "tree")
	trees, err := repo.Trees(ctx, slices.DeleteFunc([]string{m.Commit, base}, func(id string) bool { return id == "" })...)
	var files map[string]string
	if err == nil {
		files, err = repo.Checkout(ctx, m.Commit, tree)
	}
	if err != nil {
		if errors.Is(err, git.ErrUnsafeTree) || errors.Is(err, git.ErrTooLarge) {
			err = found("%v", err)
		}
		return pipeline.Report{}, nil, leave, err
	}
	commit, err := commitOf(ctx, repo, m.Commit)
	if err != nil {
		return pipeline.Report{}, nil, leave, err
	}
	spec := b.spec(ctx, job, repo, m, room, tree)
	spec.Created = commit.Committed
	spec.Files = files
	if spec.Tree = trees[0]; m.Ref != "" {
		spec.Tree = "fork-" + spec.Tree // once it is merged, the master copy takes nothing of what a stranger's run left
	}
	if base != "" {
		spec.Base = trees[1]
	}
	quarantined, red := spec.Quarantined, set(redBefore)
	spec.Quarantined = func(test string) string {
		if red[test] {
			return "as it fails on " + m.Base + " without the change too"
		}
		return quarantined(test)
	}
	if b.options.Logs != nil {
		spec.Log = log
	}
	if b.options.Cache != nil {
		spec.Shared = b.options.Cache.Repository(job.Project.Name, m.Repository)
	}
	report, err := pipeline.Run(ctx, spec)
	unshare(ctx, report, spec.Shared)
	if err != nil {
		return report, nil, leave, err
	}
	evidence := &events.Evidence{
		Run:   job.Event.Key,
		Tests: report.Count(testreport.Passed) + report.Count(testreport.Failed), Failed: report.Count(testreport.Failed),
		Skipped: report.Count(testreport.Skipped), Coverage: report.Coverage, Digest: report.LogDigest,
		Images: report.Images, Unisolated: report.Unisolated, Reused: report.Reused(),
	}
	for _, test := range report.Quarantined {
		if red[test] {
			evidence.RedBefore = append(evidence.RedBefore, test)
		} else {
			evidence.Quarantined = append(evidence.Quarantined, test)
		}
	}
	evidence.RedBefore, evidence.Quarantined = listed(evidence.RedBefore), listed(evidence.Quarantined)
	if report.Unisolated != "" {
		b.exposed.Do(func() {
			b.options.Log(executor.Exposed("steps of pipelines", "builder"), "reason", report.Unisolated)
		})
	}
	if evidence.Changed, err = coveredOf(ctx, repo, m, report.Profile); err != nil {
		return report, evidence, leave, err
	}
	if failed, is := report.Failed(); is {
		return report, evidence, leave, found("%s: %s%s", failed.Name, failed.Reason, tail(report.LogTail))
	}
	return report, evidence, leave, nil
}

// quarantined says which tests' failures do not count at a time, by whom and until when.
func quarantined(p events.Project, now time.Time) func(string) string {
	return func(test string) string {
		for _, q := range p.Quarantine {
			if q.Test == test && q.Holds(now) {
				return fmt.Sprintf("of %s until %s", q.Owner, q.Until)
			}
		}
		return ""
	}
}

// spec is how the pipeline of a commit is run here.
func (b *builder) spec(ctx context.Context, job *service.Job, repo *git.Repository, m events.MergeDetail, room, tree string) pipeline.Spec {
	ref, _ := job.Project.Repository(m.Repository)
	occasion := definition.Occasion{Branch: m.Base, Change: m.Change}
	if m.Change != "" && m.Onto != "" {
		occasion.Touched = sync.OnceValues(func() ([]string, error) { return touches(ctx, repo, m.Onto, m.Commit) })
	}
	return pipeline.Spec{
		// A place that is the same for every commit and worker: what a tool keeps by path it finds again.
		Dir: tree, At: "/work", Main: ref.Main, Output: filepath.Join(room, "out"),
		Occasion: occasion,
		Host:     b.host, Image: b.engine,
		Secret:      b.secretsFor(job.Project, m),
		Hidden:      b.hidden(),
		Quarantined: quarantined(job.Project, time.Now()),
		Kept:        b.workshop.kept(job.Project.Name, m.Repository), Name: job.Event.Key,
		Go: b.workshop.goCaches(job.Project.Name),
	}
}

var namedSecret = regexp.MustCompile(`"secret:([^"]+)"`)

// secretOf reads secrets for steps. What the project's configuration names, and the key that is made for it, is the services' own: a change
// brings its pipeline along, which runs before anybody has to have read it.
func (b *builder) secretOf(p events.Project) func(name string) (string, error) {
	own := map[string]bool{attest.MadeKey: true}
	text, err := json.Marshal(p)
	for _, found := range namedSecret.FindAllSubmatch(text, -1) {
		own[string(found[1])] = true
	}
	return func(name string) (string, error) {
		if err != nil {
			return "", err
		}
		if own[name] {
			return "", fmt.Errorf("secret:%s is the services' own, by the project's configuration: no step is given it", name)
		}
		return secret.Read(b.options.SecretsDir, p.Name, name)
	}
}

// touches lists the files in which two commits differ.
func touches(ctx context.Context, repo *git.Repository, from, to string) ([]string, error) {
	files, err := repo.Changed(ctx, from, to)
	if errors.Is(err, git.ErrTooLarge) {
		err = fmt.Errorf("%w: %w", definition.ErrTooMany, err)
	}
	return files, err
}

// hidden is what the builder has for itself, should it lie in what steps see of the machine.
func (b *builder) hidden() []string {
	var all []string
	for _, path := range append([]string{b.options.Data, b.options.SecretsDir, b.options.SigningKey}, b.options.Private...) {
		if at, err := filepath.Abs(path); err == nil && path != "" {
			all = append(all, at)
		}
	}
	return all
}

// tail is the end of a log, for whoever has to mend the change.
func tail(log string) string {
	const most = 2000
	log = strings.TrimSpace(log)
	if log == "" {
		return ""
	}
	if len(log) > most {
		log = log[len(log)-most:]
		_, log, _ = strings.Cut(log, "\n") // not from the middle of a line
	}
	return "\n" + strings.ToValidUTF8(log, "\uFFFD")
}

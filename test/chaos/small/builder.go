package small

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// commit names what a repository holds after a merge.
func commit(parts ...string) string { return hash(parts...)[:40] }

func hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// longAgo is when every commit was made: a fixed time, so that a second attempt says the same.
const longAgo = "2026-01-12T09:00:00Z"

// pipeline tests a change.
func (w work) pipeline(ctx context.Context, job *service.Job) error {
	queued, ok := job.Event.Content.(events.PipelineRunQueued)
	if !ok {
		return events.Reject(fmt.Errorf("%T asks for no pipeline run", job.Event.Content))
	}
	m := queued.Lemnis.Merge
	if err := job.Report(ctx, service.Report{Content: events.PipelineRunStarted{
		PipelineName: queued.PipelineName, Lemnis: events.RunDetail{Merge: m}}}); err != nil {
		return err
	}
	began := time.Now()
	if err := w.pause(ctx); err != nil {
		return err
	}
	finished := events.PipelineRunFinished{PipelineName: queued.PipelineName, Outcome: events.Success}
	kind := kindOf(m.Title)
	m.Evidence = &events.Evidence{Run: job.Event.Key, Tests: 12, Coverage: kind.coverage()}
	if kind == Red {
		m.Evidence.Failed = 1
		finished.Outcome, finished.Errors = events.Failure, "a test fails"
	} else {
		m.Onto, m.Commit, m.Committed = commit(job.Project.Name, m.Repository), commit(job.Project.Name, m.Repository, m.Head), longAgo
	}
	finished.Lemnis = events.RunDetail{Merge: m, Seconds: time.Since(began).Seconds()}
	return job.Report(ctx, service.Report{Content: finished})
}

// merge makes the tested commit the master copy.
func (w work) merge(ctx context.Context, job *service.Job) error {
	tested, ok := job.Event.Content.(events.QueueTested)
	if !ok {
		return events.Reject(fmt.Errorf("%T asks for no merge", job.Event.Content))
	}
	if err := w.pause(ctx); err != nil {
		return err
	}
	m := tested.Merge
	return job.Report(ctx, service.Report{Content: events.ChangeMerged{Repository: &events.Reference{ID: m.Repository}, Lemnis: m}})
}

// adopt is for what outside builders offer: in the proof there is none.
func (w work) adopt(_ context.Context, job *service.Job) error {
	return events.Reject(fmt.Errorf("%T is an offer, which has no small form", job.Event.Content))
}

// status tells forges: the proof's projects have none.
func (w work) status(context.Context, *service.Job) error { return nil }

// pack packages a commit of the master copy.
func (w work) pack(ctx context.Context, job *service.Job) error {
	queued, ok := job.Event.Content.(events.BuildQueued)
	if !ok {
		return events.Reject(fmt.Errorf("%T asks for no build", job.Event.Content))
	}
	d := queued.Lemnis
	if err := job.Report(ctx, service.Report{Content: events.BuildStarted{Lemnis: d}}); err != nil {
		return err
	}
	began := time.Now()
	if err := w.pause(ctx); err != nil {
		return err
	}
	m := &d.Merge
	if m.Change == "" { // the master copy as it was found
		m.Commit, m.Committed, m.Author = commit(job.Project.Name, m.Repository, "initial"), longAgo, "ann"
	}
	if m.Evidence == nil {
		m.Evidence = &events.Evidence{Run: job.Event.Key, Tests: 12, Coverage: Good.coverage()}
	}
	d.Outcome, d.Size = events.Success, 1<<20
	d.Digest = "sha256:" + hash(job.Project.Name, d.Service, m.Commit)
	d.Artifact = fmt.Sprintf("registry.invalid/%s/%s@%s", job.Project.Name, d.Service, d.Digest)
	d.Seconds = time.Since(began).Seconds()
	purl := fmt.Sprintf("pkg:oci/%s@sha256%%3A%s", cmp.Or(d.Service, "service"), d.Digest[len("sha256:"):])
	return job.Report(ctx, service.Report{Content: events.BuildFinished{ArtifactID: purl, Lemnis: d}})
}

// survey and land have nothing to do: no project here gives its queue several slots.
func (w work) survey(context.Context, *service.Job) error { return nil }

func (w work) land(context.Context, *service.Job) error { return nil }

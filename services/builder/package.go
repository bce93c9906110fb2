package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/internal/runlog"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/git"
	"github.com/lemnis/lemnis/services/builder/pipeline"
)

// pack packages a commit of the master copy into one executable or image and pushes it.
func (b *builder) pack(ctx context.Context, job *service.Job) error {
	queued, ok := job.Event.Content.(events.BuildQueued)
	if !ok {
		return events.Reject(fmt.Errorf("%T asks for no build", job.Event.Content))
	}
	d := queued.Lemnis
	started := time.Now()
	if err := job.Report(ctx, service.Report{Content: events.BuildStarted{Lemnis: d}}); err != nil {
		return err
	}
	var made product
	var ref oci.Reference
	err := spent(job)
	if err == nil {
		made, ref, err = b.ship(ctx, job, &d, started)
	} else {
		b.log(ctx, job, runlog.Build).end(err.Error())
	}
	finished := events.BuildFinished{}
	if err != nil {
		f, result, again := outcome(ctx, job, err)
		if again != nil {
			return again
		}
		d.Outcome, d.Reason = result, f.reason
	} else {
		d.Outcome, d.Artifact, d.Digest, d.Size = events.Success, ref.String(), made.digest, made.size
		finished.ArtifactID = ref.PURL()
	}
	d.Seconds = time.Since(started).Seconds()
	finished.Lemnis = d
	if err := job.Report(ctx, service.Report{Content: finished}); err != nil {
		return err
	}
	b.workshop.discard(made)
	return nil
}

// ship makes the executable or image, unless its merge was packaged here when it was tested, and pushes it with the evidence of where
// it comes from.
func (b *builder) ship(ctx context.Context, job *service.Job, d *events.BuildDetail, started time.Time) (product, oci.Reference, error) {
	if b.options.Registry == "" {
		return product{}, oci.Reference{}, found("the builder is given no registry to push to")
	}
	m := &d.Merge
	room, leave, err := b.workshop.room("ship\x00"+job.Project.Name+"\x00"+job.Event.Key, job.Attempt)
	if err != nil {
		return product{}, oci.Reference{}, err
	}
	defer leave()
	made, there, err := b.workshop.pin(job.Project.Name, m.Repository, m.Commit, room)
	if err != nil {
		return product{}, oci.Reference{}, err
	}
	if !there {
		var leave func()
		made, leave, err = b.make(ctx, job, m)
		defer leave()
		if err != nil {
			return product{}, oci.Reference{}, err
		}
	}
	push := oci.Push
	if made.image {
		push = oci.PushImage
	}
	ref, err := push(ctx, strings.TrimRight(b.options.Registry, "/")+"/"+job.Project.Name+"/"+d.Service, made.file,
		oci.Metadata{Annotations: annotations(*m)}, b.options.Push...)
	if errors.Is(err, oci.ErrBadReference) {
		return product{}, oci.Reference{}, found("%v", err)
	}
	if err == nil && ref.Layer != made.digest {
		err = &unreadError{fmt.Errorf("what is packaged was %s when it was made and %s when it was pushed", made.digest, ref.Layer)}
	}
	if err == nil {
		evidence := proof{builder: b, job: job, build: *d, made: made, ref: ref, started: started}
		d.Supply, err = evidence.prove(ctx)
	}
	if damaged(err) {
		b.workshop.discard(made) // the next try makes it again
	}
	return made, ref, err
}

// damaged says of an error that what is packaged is not, or no longer, what was made.
func damaged(err error) bool {
	var unread *unreadError
	var path *fs.PathError
	return errors.As(err, &unread) || errors.As(err, &path) || errors.Is(err, oci.ErrNotImage) || errors.Is(err, oci.ErrDigest)
}

// make builds the executable or image, and tests it, from the source.
func (b *builder) make(ctx context.Context, job *service.Job, m *events.MergeDetail) (product, func(), error) {
	none := func() {}
	repo, master, err := b.source(ctx, job.Project, *m)
	if err != nil {
		return product{}, none, err
	}
	initial := m.Change == ""
	if m.Commit == "" {
		m.Commit = master // the master copy as it was found
	}
	commit, err := commitOf(ctx, repo, m.Commit)
	if errors.Is(err, git.ErrNotFound) {
		err = found("the repository has no commit %s", m.Commit)
	}
	if err != nil {
		return product{}, none, err
	}
	if initial {
		m.Title, _, _ = strings.Cut(commit.Message, "\n")
		m.Author, m.Committed = commit.Author.Name, commit.Committed.Format(time.RFC3339)
	}
	base := m.Onto
	if base == "" && len(commit.Parents) > 0 {
		base = commit.Parents[0]
	}
	if base != "" {
		// A train that was never merged left commits too.
		if merged, err := repo.Ancestor(ctx, base, master); err != nil {
			return product{}, none, err
		} else if !merged {
			base = ""
		}
	}
	log := b.log(ctx, job, runlog.Build)
	defer log.close(false, nil)
	of := *m
	if of.Ref != "" {
		merged, err := repo.Ancestor(ctx, m.Commit, master)
		if err != nil {
			return product{}, none, err
		}
		if merged {
			of.Ref = "" // it is no fork's any more, but the master copy's
		}
	}
	report, evidence, leave, err := b.check(ctx, job, log, repo, of, base, nil)
	if _, _, again := outcome(ctx, job, err); err == nil || again == nil {
		log.close(true, evidence)
	}
	if evidence != nil && m.Evidence == nil {
		m.Evidence = evidence
	}
	if err != nil {
		return product{}, leave, err
	}
	if report.Packaged() == "" {
		return product{}, leave, found("nothing to package: %s", strings.Join(report.Found, "; "))
	}
	return productOf(job, *m, report), leave, nil
}

// productOf is what a run packaged of a commit.
func productOf(job *service.Job, m events.MergeDetail, report pipeline.Report) product {
	return product{project: job.Project.Name, repository: m.Repository, commit: m.Commit, image: report.Image != "", bases: report.Bases,
		file: report.Packaged(), digest: report.Digest, size: report.Size, modules: report.Modules}
}

// annotations say in the manifest where what is packaged comes from. They hold nothing of the
// moment: the same commit gives the same manifest.
func annotations(m events.MergeDetail) map[string]string {
	all := map[string]string{
		"org.opencontainers.image.revision": m.Commit,
		"org.opencontainers.image.created":  m.Committed,
		"dev.lemnis.repository":             m.Repository,
		"dev.lemnis.change":                 m.Change,
		"dev.lemnis.item":                   m.Item,
	}
	for name, value := range all {
		if value == "" {
			delete(all, name)
		}
	}
	return all
}

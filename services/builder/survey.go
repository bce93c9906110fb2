package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/definition"
	"github.com/lemnis/lemnis/services/builder/git"
	"github.com/lemnis/lemnis/services/builder/survey"
)

// mostTouched bounds the names of a survey, in bytes: they stand in events and in the queue's state.
const mostTouched = 64 << 10

// survey finds out what a change that waits in a queue touches.
func (b *builder) survey(ctx context.Context, job *service.Job) error {
	entered, ok := job.Event.Content.(events.QueueEntered)
	if !ok {
		return events.Reject(fmt.Errorf("%T asks for no survey", job.Event.Content))
	}
	if entered.Slots == 0 || b.rounds.over(job.Project.Name, entered.Merge) {
		return nil
	}
	var touched survey.Touched
	err := spent(job)
	switch {
	case err != nil:
	case entered.Alone: // what overlaps with all is in no train, nor confirmed together with others
		touched = survey.Touched{Writes: []string{survey.Everything}, Reason: "it is merged together with no other"}
	default:
		touched, err = b.touched(ctx, job, entered.Merge)
	}
	if err != nil {
		// Whatever is wrong with it, its run will say: beside nothing else.
		f, _, again := outcome(ctx, job, err)
		if again != nil {
			return again
		}
		touched = survey.Touched{Writes: []string{survey.Everything}, Reason: f.reason}
	}
	if size := len(strings.Join(touched.Writes, " ")) + len(strings.Join(touched.Reads, " ")); size > mostTouched {
		touched = survey.Touched{Writes: []string{survey.Everything}, Reason: fmt.Sprintf("it touches %d packages, too many to name", len(touched.Reads))}
	}
	return job.Report(ctx, service.Report{Content: events.QueueSurveyed{
		Merge: entered.Merge, Writes: touched.Writes, Reads: touched.Reads, Reason: touched.Reason}})
}

func (b *builder) touched(ctx context.Context, job *service.Job, m events.MergeDetail) (survey.Touched, error) {
	repo, master, err := b.source(ctx, job.Project, m)
	if err != nil {
		return survey.Touched{}, err
	}
	if err := bring(ctx, repo, m); err != nil {
		return survey.Touched{}, err
	}
	m.Onto = master
	made, err := mergeCommit(ctx, repo, m)
	if errors.Is(err, git.ErrNotFound) {
		err = found("the repository has no commit %s", m.Head)
	}
	if err != nil {
		return survey.Touched{}, err
	}
	room, leave, err := b.workshop.room("survey\x00"+job.Project.Name+"\x00"+job.Event.Key, job.Attempt)
	if err != nil {
		return survey.Touched{}, err
	}
	defer leave()
	tree := filepath.Join(room, "tree")
	if _, err := repo.Checkout(ctx, made.commit, tree); err != nil {
		if errors.Is(err, git.ErrUnsafeTree) || errors.Is(err, git.ErrTooLarge) {
			err = found("%v", err)
		}
		return survey.Touched{}, err
	}
	files, err := touches(ctx, repo, master, made.commit) // after what can not be checked out: git has all in memory before it says the first
	if errors.Is(err, definition.ErrTooMany) {
		err = found("%v", err)
	}
	if err != nil {
		return survey.Touched{}, err
	}
	root, err := os.OpenRoot(tree) // follows nothing out of the tree
	if err != nil {
		return survey.Touched{}, err
	}
	defer func() { _ = root.Close() }()
	var lanes []string
	if job.Project.Queue != nil {
		lanes = job.Project.Queue.Lanes
	}
	return survey.Of(root.FS(), files, lanes)
}

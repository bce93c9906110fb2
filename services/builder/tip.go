package builder

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/internal/testreport"
	"github.com/lemnis/lemnis/services/builder/git"
	"github.com/lemnis/lemnis/services/builder/pipeline"
)

// tipHolds is how long what was found out about a commit of the master copy is believed: what fails there since depends on the time.
const tipHolds = 10 * time.Minute

// tips remembers which tests failed on commits of master copies. The zero value knows nothing.
type tips struct {
	mu  sync.Mutex
	all map[tipOf]tipTests
}

type tipOf struct{ project, repository, commit string }

type tipTests struct {
	at  time.Time  // of the first run
	red [][]string // tests that failed, of each run
}

func (t *tips) get(of tipOf) [][]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one := t.all[of]; time.Since(one.at) < tipHolds {
		return one.red
	}
	return nil
}

func (t *tips) put(of tipOf, at time.Time, red [][]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[tipOf]tipTests{}
	}
	for old, one := range t.all {
		if time.Since(one.at) >= tipHolds {
			delete(t.all, old)
		}
	}
	if old, there := t.all[of]; there {
		at = old.at
	}
	t.all[of] = tipTests{at, red}
}

// redBefore names those of the failing tests that fail on the commit of the master copy without m too, each time that it is tested. A package
// whose tests could not be built or begun is none of them: nobody knows what they would have said.
func (b *builder) redBefore(ctx context.Context, job *service.Job, repo *git.Repository, m events.MergeDetail, master string, failing []string) ([]string, error) {
	of := tipOf{job.Project.Name, m.Repository, master}
	runs, began := b.tips.get(of), time.Now()
	both := func() []string {
		return slices.DeleteFunc(slices.Clone(failing), func(name string) bool {
			passes := func(red []string) bool { return !slices.Contains(red, name) }
			return strings.HasSuffix(name, "."+testreport.Package) || slices.ContainsFunc(runs, passes)
		})
	}
	for len(runs) < tries && len(both()) > 0 {
		red, err := b.testTip(ctx, job, repo, m, master)
		if err != nil {
			return nil, err
		}
		runs = append(slices.Clone(runs), red)
		b.tips.put(of, began, runs)
	}
	return both(), nil
}

// testTip runs the pipeline on a commit of the master copy, as for m, and names the tests that fail. What earlier runs left says nothing about today.
func (b *builder) testTip(ctx context.Context, job *service.Job, repo *git.Repository, m events.MergeDetail, commit string) ([]string, error) {
	room, leave, err := b.workshop.room("tip\x00"+job.Project.Name+"\x00"+job.Event.Key, job.Attempt)
	if err != nil {
		return nil, err
	}
	defer leave()
	tree := filepath.Join(room, "tree")
	if _, err := repo.Checkout(ctx, commit, tree); errors.Is(err, git.ErrUnsafeTree) || errors.Is(err, git.ErrTooLarge) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	spec := b.spec(ctx, job, repo, m, room, tree)
	// A store of its own, in which nothing is found: without one, steps would write to Go's caches of the host.
	spec.Kept, spec.Tree, spec.Quarantined = filepath.Join(room, "kept"), "tip", nil
	report, err := pipeline.Run(ctx, spec)
	return failedTests(report), err
}

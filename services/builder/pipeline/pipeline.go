package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/lemnis/lemnis/internal/document"
	"github.com/lemnis/lemnis/internal/excerpt"
	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/image"
	"github.com/lemnis/lemnis/services/builder/definition"
)

// DefaultTailBytes is Spec.TailBytes where it is zero.
const DefaultTailBytes = 16 << 10

// latest is the last time that a configuration of an image can say, which is RFC 3339's: a commit's may be later.
var latest = time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)

// Spec says what to run. Dir and Output have to be given.
type Spec struct {
	Dir    string // the checkout
	At     string // where isolated steps see it; empty: where it is
	Main   string // Go package to package where the pipeline is detected, as "./cmd/api" or import path; empty: the only one
	Output string // folder for the packaged file and build.log; made when it is not there

	Created time.Time // of the commit: the time of an image that is packaged, and of what its build made; zero: 1970

	Only     []string // steps to run, with what they need; none: all
	Occasion definition.Occasion

	Host   executor.Executor                 // nil: a new executor of processes
	Image  executor.Executor                 // nil: there is no container engine
	Secret func(name string) (string, error) // nil: there are no secrets
	Hidden []string                          // files and folders that isolated steps may not read, wherever they lie

	Go string // with Kept: folder in which Go's caches of a project are kept; empty, or without Kept: steps share the host's, and write to them

	Quarantined func(test string) string // says why the failure of a test, named by suite and case, does not count; empty: it does

	Kept  string            // folder in which the results and caches of steps are kept, by tree; empty: every step runs, and caches stay in the checkout
	Tree  string            // with Kept: names all that the checkout holds; what runs of the same left is taken
	Base  string            // with Kept: names what the master copy holds that the checkout was made upon; what runs of it left is taken where it depends on the same; empty: nothing is
	Files map[string]string // with Kept: what each file of the checkout is, by path: two of the same text are the same. Only these, and outputs, are packaged in an image; nil: all
	Name  string            // with Kept: of this run, for those that take its results

	Shared Shared // with Kept: what is not there is looked for here, by the same rules; nil: nowhere

	Log       Log              // keeps the log; nil: it is build.log in Output
	Live      io.Writer        // gets the log while it grows; nil: nobody
	Parallel  int              // steps at once; as many as processors when zero
	TailBytes int              // bytes of the log that the report carries
	Now       func() time.Time // the clock of the steps; nil: time.Now
}

// run is one run.
type run struct {
	spec   Spec
	root   *os.Root // the checkout
	env    environment
	log    *transcript
	report Report

	keys  map[string]string // of tasks: what their results are kept under
	taken map[string]kept   // tasks that need not be run
	idle  bool              // none has to be: the checkout has nothing but the commit's files and what was kept

	before image.Sums // the commit's files as they were before the steps, where an image is made of them

	private map[string]bool // tasks whose results nobody else may have
	away    bool            // spec.Shared does not answer, or there is none
	sharing sync.Mutex      // of report.Fresh

	layers layers // of Go's caches
}

// Run takes a checkout through its pipeline. The report is valid also when there is an error.
func Run(ctx context.Context, spec Spec) (Report, error) {
	r, err := prepare(spec)
	if err != nil {
		return Report{}, fmt.Errorf("pipeline: %w", err)
	}
	defer func() { _ = r.root.Close() }()
	err = r.all(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err := errors.Join(err, r.log.close(&r.report)); err != nil {
		return r.report, fmt.Errorf("pipeline: %w", err)
	}
	return r.report, nil
}

func prepare(spec Spec) (r *run, err error) {
	spec.TailBytes, spec.Parallel = cmp.Or(max(spec.TailBytes, 0), DefaultTailBytes), cmp.Or(max(spec.Parallel, 0), runtime.NumCPU())
	if spec.Created.IsZero() {
		spec.Created = time.Unix(0, 0)
	}
	if spec.Created.After(latest) {
		spec.Created = latest
	}
	if spec.Now == nil {
		spec.Now = time.Now
	}
	if spec.Host == nil {
		spec.Host = executor.NewProcess(executor.Auto)
	}
	if spec.Kept != "" && spec.Tree == "" {
		return nil, errors.New("results are to be kept, and no tree is given")
	}
	for _, p := range []*string{&spec.Dir, &spec.Output} {
		if *p == "" {
			return nil, errors.New("no folder given")
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(spec.Output, 0o755); err != nil {
		return nil, err
	}
	r = &run{spec: spec}
	if r.root, err = os.OpenRoot(spec.Dir); err != nil {
		return nil, err
	}
	if r.log, err = newTranscript(filepath.Join(spec.Output, "build.log"), spec); err != nil {
		_ = r.root.Close()
		return nil, err
	}
	return r, nil
}

// all loads the definition, runs it, and packages what it says.
func (r *run) all(ctx context.Context) error {
	p, tasks, err := r.load(ctx)
	var wrong document.Errors
	switch {
	case errors.As(err, &wrong), errors.Is(err, definition.ErrNothing), errors.Is(err, definition.ErrNoMain), errors.Is(err, definition.ErrUnread), errors.Is(err, errDefinition):
		r.fail(StepDefinition, CauseDefinition, err.Error())
		return nil
	case err != nil:
		return err
	}
	if r.env, err = newEnvironment(ctx, r.root, r.spec.Output); err != nil {
		_, _ = fmt.Fprintf(r.log, "steps do not have the host's settings and caches of Go: %v\n", err)
	}
	if err := r.plan(ctx, p, tasks); err != nil {
		return err
	}
	defer r.layers.unlock()
	r.idle = len(r.taken) == len(tasks)
	if !r.idle {
		if err := r.env.make(); err != nil {
			return err
		}
	}
	if err := r.openLayers(ctx, tasks); err != nil {
		return err
	}
	if p.Package != nil && p.Package.Dockerfile != "" && !r.idle {
		if r.before, err = image.SumsOf(ctx, r.root, maps.Keys(r.spec.Files)); err != nil {
			return err
		}
	}
	if err := r.schedule(ctx, tasks); err != nil {
		return err
	}
	r.layers.markUsed(r.env.caches[goBuilt])
	alone := r.layers.alone()
	r.keepLayers(alone)
	if r.spec.Kept != "" && !r.idle {
		spared := layersName
		if alone {
			spared = ""
		}
		if err := sweep(r.spec.Kept, time.Now(), allKept, spared); err != nil {
			_, _ = fmt.Fprintf(r.log, "tidy what is kept: %v\n", err)
		}
	}
	r.layers.unlock() // others need not wait for what is packed
	if _, failed := r.report.Failed(); failed || p.Package == nil || len(r.spec.Only) > 0 {
		return nil
	}
	if p.Package.Dockerfile != "" {
		return r.packImage(ctx, *p.Package, tasks)
	}
	return r.pack(p.Package.Executable)
}

// errDefinition says that what is asked for is not in the definition.
var errDefinition = errors.New("the pipeline can not be run")

func (r *run) load(ctx context.Context) (definition.Pipeline, []definition.Task, error) {
	p, found, err := definition.Load(r.root.FS(), r.spec.Main)
	if err != nil {
		return p, nil, err
	}
	r.report.Found = found
	tasks, err := p.Tasks(ctx, r.spec.Occasion)
	if err == nil {
		tasks, err = choose(p, tasks, r.spec.Only)
	}
	if errors.Is(err, definition.ErrPaths) || err != nil && ctx.Err() != nil {
		return p, nil, err
	}
	if err != nil {
		return p, nil, fmt.Errorf("%w: %w", errDefinition, err)
	}
	if len(tasks) == 0 {
		return p, nil, fmt.Errorf("%w: no step's condition holds on this occasion", errDefinition)
	}
	return p, tasks, nil
}

// fail adds a step that failed before anything of it ran.
func (r *run) fail(name string, cause Cause, reason string) {
	now := r.spec.Now()
	r.end(Step{Name: name, Outcome: Failure, Cause: cause, Reason: reason, Started: now, Finished: now})
}

// mostReason is how many bytes the reason of a step has: it becomes part of an event, and tests name themselves.
const mostReason = 16 << 10

// end adds a step to the report, and to the log where it did not succeed.
func (r *run) end(s Step) {
	s.Reason = excerpt.Of(s.Reason, mostReason)
	r.report.Steps = append(r.report.Steps, s)
	if s.Outcome != Success {
		_, _ = fmt.Fprintf(r.log.of(s.Name), "%s: %s: %s\n", s.Name, s.Outcome, s.Reason)
	}
}

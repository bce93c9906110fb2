package pipeline

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/image"
	"github.com/lemnis/lemnis/services/builder/definition"
)

// mostImage is how many bytes an image may have that is packaged, uncompressed.
const mostImage = 8 << 30

// epoch is the argument of a Dockerfile by which programs are told the commit's time, as reproducible-builds.org says.
const epoch = "SOURCE_DATE_EPOCH"

// imageBuilder is an executor that builds images too.
type imageBuilder interface {
	Build(ctx context.Context, b executor.Build, out io.Writer) (executor.Result, error)
}

var _ imageBuilder = (*executor.Docker)(nil)

// packImage builds the image that a Dockerfile describes. In the report it is a step, which says how long that took and why it failed.
func (r *run) packImage(ctx context.Context, p definition.Package, tasks []definition.Task) error {
	s := Step{Name: StepPackage, Outcome: Success, Attempts: 1, Started: r.spec.Now()}
	ended, err := r.buildImage(ctx, p, tasks)
	s.Cause, s.Reason = ended.Cause, ended.Reason
	switch {
	case ctx.Err() != nil:
		s.Outcome, s.Cause, s.Reason = Error, CauseCancelled, context.Cause(ctx).Error()
	case err != nil:
		s.Outcome, s.Cause, s.Reason = Error, CauseMachinery, err.Error()
	case !ended.Succeeded():
		s.Outcome = Failure
	}
	s.Finished = r.spec.Now()
	r.end(s)
	r.report.use(ended.Images)
	r.report.Bases = ended.Images
	return err
}

func (r *run) buildImage(ctx context.Context, p definition.Package, tasks []definition.Task) (ended executor.Result, err error) {
	engine, is := r.spec.Image.(imageBuilder)
	if !is {
		return executor.Result{Cause: executor.CauseEngine, Reason: "an image is to be packaged, and there is no container engine here"}, nil
	}
	scratch, err := os.MkdirTemp(r.spec.Output, ".image-")
	if err != nil {
		return executor.Result{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	whole := cmp.Or(time.Duration(p.Timeout), executor.DefaultTime)
	limited, cancel := context.WithTimeout(ctx, whole)
	defer cancel()
	defer func() {
		if err != nil && ctx.Err() == nil && limited.Err() != nil {
			ended.Cause, ended.Reason, err = executor.CauseTimeLimit, fmt.Sprintf("not done after %s", whole), nil
		}
	}()
	build, end, err := r.imageOf(limited, p, tasks, scratch)
	switch {
	case errors.Is(err, image.ErrDiskFull):
		return executor.Result{Cause: executor.CauseDiskFull, Reason: err.Error()}, nil
	case errors.Is(err, image.ErrContext) && r.before != nil: // a step may have brought it about
		return executor.Result{Cause: CausePackage, Reason: err.Error()}, r.forget()
	case errors.Is(err, image.ErrContext):
		return executor.Result{Cause: CausePackage, Reason: err.Error()}, nil
	case errors.Is(err, image.ErrDockerfile):
		return executor.Result{Exit: 125, Cause: executor.CauseBuild, Reason: err.Error()}, nil
	case err != nil:
		return executor.Result{}, err
	}
	defer end()
	var hidden []string
	for _, t := range tasks {
		known, err := r.secrets(t.Step) // a script may have left one in the checkout
		if err != nil {
			return executor.Result{}, fmt.Errorf("secrets of step %s: %w", t.Step.Name, err)
		}
		hidden = append(hidden, values(known)...)
	}
	_, _ = fmt.Fprintf(r.log.of(StepPackage), "= the image is built by %s\n", p.Dockerfile)
	out := newMask(hidden, r.log.of(StepPackage))
	build.Limits.Time = whole
	ended, err = engine.Build(limited, build, out)
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	if err != nil || !ended.Succeeded() {
		ended.Reason = masked(ended.Reason, hidden)
		return ended, err
	}
	archive := filepath.Join(r.spec.Output, "bin", "image.tar")
	if err := os.MkdirAll(filepath.Dir(archive), 0o755); err != nil {
		return ended, err
	}
	made, err := image.Reproduce(limited, build.Saved, archive, image.Options{Created: r.spec.Created, Began: ended.Began})
	switch {
	case errors.Is(err, image.ErrTooLarge), errors.Is(err, image.ErrLayer):
		ended.Cause, ended.Reason = CausePackage, err.Error()
		return ended, nil
	case errors.Is(err, image.ErrDiskFull):
		ended.Cause, ended.Reason = executor.CauseDiskFull, err.Error()
		return ended, nil
	case err != nil:
		return ended, err
	}
	r.report.Image, r.report.Digest, r.report.Size = archive, made.ID, made.Size
	_, _ = fmt.Fprintf(r.log.of(StepPackage), "= image %s, %d bytes\n", made.ID, made.Size)
	return ended, nil
}

// imageOf is what the engine is asked for; end has to be called after it was.
func (r *run) imageOf(ctx context.Context, p definition.Package, tasks []definition.Task, scratch string) (b executor.Build, end func(), err error) {
	paths, as, err := r.contextPaths(tasks)
	if err != nil {
		return b, nil, fmt.Errorf("%w: %w", image.ErrContext, err)
	}
	args, err := r.imageArgs(p)
	if err != nil {
		return b, nil, err
	}
	c := image.Context{Root: r.root, Folder: cmp.Or(p.Context, "."), Dockerfile: p.Dockerfile, Paths: paths, Time: r.spec.Created, As: as}
	file, err := os.OpenFile(filepath.Join(scratch, "context.tar"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return b, nil, err
	}
	dockerfile, err := c.Write(ctx, image.Sparing(scratch, file))
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	var text []byte
	if err == nil {
		text, err = c.Text()
	}
	d := image.Read(text, args, p.Target)
	if err = cmp.Or(err, d.Refused); err != nil {
		_ = file.Close()
		return b, nil, err
	}
	if _, given := args[epoch]; !given && d.Declares[epoch] {
		args[epoch] = strconv.FormatInt(r.spec.Created.Unix(), 10)
	}
	return executor.Build{
		Name: StepPackage, Context: file, Dockerfile: dockerfile, Target: p.Target, Args: args, Bases: d.Bases, Network: p.Network,
		Image: mostImage, Saved: filepath.Join(scratch, "saved.tar"),
		Limits: executor.Limits{CPU: p.Limits.CPU, Memory: int64(p.Limits.Memory), Processes: p.Limits.Processes,
			Output: int64(p.Limits.Output)},
	}, func() { _ = file.Close() }, nil
}

// imageArgs are what the pipeline gives, and the builder's proxies where there is a network.
func (r *run) imageArgs(p definition.Package) (map[string]string, error) {
	args := map[string]string{}
	if p.Network {
		for _, variable := range r.env.anywhere {
			name, value, _ := strings.Cut(variable, "=")
			if !slices.Contains(proxies, name) {
				continue
			}
			if strings.Contains(value, "@") && !strings.EqualFold(name, "no_proxy") { // scripts see it, and are the project's
				return nil, fmt.Errorf("%w: with network: true its RUN would be told the builder's %s, which holds a user's name or password: give the builder a proxy without", image.ErrDockerfile, name)
			}
			args[name] = value // engines know these, and leave them out of the image
		}
	}
	maps.Copy(args, p.Args)
	return args, nil
}

// contextPaths are the files that an image may be made of: the commit's, and what steps say that they leave. What they leave beside that,
// reports and folders that are kept, differs from run to run. as is what of the commit's has to be as it was before them. Of a checkout of which nobody says what the commit's are, all files.
func (r *run) contextPaths(tasks []definition.Task) (paths []string, as image.Sums, err error) {
	if r.spec.Files == nil {
		paths, err = r.glob([]string{"**"}, true)
		return paths, nil, err
	}
	var outputs []string
	var forms []*regexp.Regexp
	for _, t := range tasks {
		for _, output := range t.Step.Outputs {
			outputs, forms = append(outputs, output), append(forms, pattern(output))
		}
	}
	left, err := r.glob(outputs, true)
	maps.DeleteFunc(r.before, func(name string, _ [sha256.Size]byte) bool { // what steps say that they leave, they may change, and remove
		return slices.ContainsFunc(forms, func(f *regexp.Regexp) bool { return f.MatchString(name) })
	})
	all := append(slices.Collect(maps.Keys(r.spec.Files)), left...)
	slices.Sort(all)
	return slices.Compact(all), r.before, err
}

package pipeline

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/lemnis/lemnis/services/builder/coverage"
)

// Defaults of a Spec's limits.
const (
	DefaultTimeLimit = 15 * time.Minute
	DefaultLogLimit  = 64 << 20
	DefaultTailBytes = 16 << 10
)

// Spec says what to run. Only Dir and Output have to be given.
type Spec struct {
	Dir    string // the checkout, with go.mod at its root
	Main   string // package to build, as "./cmd/api" or import path; empty: the only main package
	Output string // folder for the executable and build.log; made when it is not there

	// TrimTests builds the tests with -trimpath as the executable is: a cold cache then compiles
	// the standard library once, not twice. Not where the project's code asks for its own paths
	// (runtime.Caller): tests that find files by them would fail.
	TrimTests bool

	TimeLimit time.Duration    // of the whole run
	LogLimit  int64            // bytes that the commands may print
	TailBytes int              // bytes of the log that the report carries
	Now       func() time.Time // the clock of the steps; nil: time.Now
}

// build is one run.
type build struct {
	spec   Spec
	env    []string
	log    *transcript
	report Report
}

// rejection is a result about the project, as against an error of the machinery.
type rejection struct {
	cause  Cause
	reason string
}

func (r *rejection) Error() string { return r.reason }

func reject(cause Cause, format string, args ...any) error {
	return &rejection{cause: cause, reason: fmt.Sprintf(format, args...)}
}

// Run takes a checkout through the steps. The report is valid also when there is an error.
func Run(ctx context.Context, spec Spec) (Report, error) {
	b, home, err := prepare(ctx, spec)
	if home != "" {
		defer func() { _ = os.RemoveAll(home) }()
	}
	if err != nil {
		return Report{}, fmt.Errorf("pipeline: %w", err)
	}
	limited, cancel := context.WithTimeoutCause(ctx, b.spec.TimeLimit,
		reject(CauseTimeLimit, "not done after %s", b.spec.TimeLimit))
	defer cancel()
	err = b.steps(limited)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if closing := b.log.close(&b.report); err == nil {
		err = closing
	}
	if err != nil {
		return b.report, fmt.Errorf("pipeline: %w", err)
	}
	return b.report, nil
}

func prepare(ctx context.Context, spec Spec) (b *build, home string, err error) {
	if spec.TimeLimit <= 0 {
		spec.TimeLimit = DefaultTimeLimit
	}
	if spec.LogLimit <= 0 {
		spec.LogLimit = DefaultLogLimit
	}
	if spec.TailBytes <= 0 {
		spec.TailBytes = DefaultTailBytes
	}
	if spec.Now == nil {
		spec.Now = time.Now
	}
	for _, p := range []*string{&spec.Dir, &spec.Output} {
		if *p == "" {
			return nil, "", errors.New("no folder given")
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return nil, "", err
		}
	}
	if err := os.MkdirAll(spec.Output, 0o755); err != nil {
		return nil, "", err
	}
	if home, err = os.MkdirTemp(spec.Output, ".home-"); err != nil {
		return nil, "", err
	}
	b = &build{spec: spec}
	if b.env, err = environment(ctx, spec.Dir, home); err != nil {
		return nil, home, err
	}
	b.log, err = newTranscript(filepath.Join(spec.Output, "build.log"), spec.LogLimit, spec.TailBytes)
	return b, home, err
}

func (b *build) steps(ctx context.Context) error {
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{StepDetect, b.detect}, {StepCompile, b.compile}, {StepTest, b.test}, {StepPackage, b.pack},
	} {
		s := Step{Name: step.name, Outcome: Success, Started: b.spec.Now()}
		err := step.run(ctx)
		s.Finished = b.spec.Now()
		var no *rejection
		switch {
		case err == nil:
		case errors.As(err, &no):
			s.Outcome, s.Cause, s.Reason = Failure, no.cause, no.reason
			err = nil
		case errors.Is(err, errOutputLimit):
			s.Outcome, s.Cause, s.Reason = Failure, CauseOutputLimit, fmt.Sprintf("printed more than %d bytes", b.spec.LogLimit)
			err = nil
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			s.Outcome, s.Cause, s.Reason = Error, CauseCancelled, err.Error()
		default:
			s.Outcome, s.Cause, s.Reason = Error, CauseMachinery, err.Error()
		}
		b.report.Steps = append(b.report.Steps, s)
		if s.Outcome != Success {
			_, _ = fmt.Fprintf(b.log, "%s: %s: %s\n", s.Name, s.Outcome, s.Reason)
			return err
		}
	}
	return nil
}

// exited turns the failure of a go command into a result; other errors stay what they are.
func exited(err error, cause Cause, reason string) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return reject(cause, "%s", reason)
	}
	return err
}

func (b *build) detect(ctx context.Context) error {
	info, err := os.Lstat(filepath.Join(b.spec.Dir, "go.mod"))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return reject(CauseNoModule, "no go.mod at the root of the repository: not a Go module")
	}
	if err != nil {
		return err
	}
	// -find does not resolve imports: nothing is downloaded to find out what is there.
	var list bytes.Buffer
	err = b.goCommand(ctx, &list, "list", "-find", "-f", "{{.Name}}\t{{.ImportPath}}\t{{with .Module}}{{.Path}}{{end}}", "./...")
	if err != nil {
		return exited(err, CauseBadModule, "the go command cannot read the module: "+lastLine(b.log))
	}
	var mains []string
	for line := range strings.Lines(list.String()) {
		field := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(field) != 3 {
			continue
		}
		b.report.Module = field[2]
		if field[0] == "main" {
			mains = append(mains, field[1])
		}
	}
	return b.chooseMain(mains)
}

func (b *build) chooseMain(mains []string) error {
	if want := b.spec.Main; want != "" {
		for _, m := range mains {
			if m == want || m == path.Join(b.report.Module, want) {
				b.report.Main = m
				return nil
			}
		}
		return reject(CauseNoMain, "no main package %s; there is: %s", want, list(mains))
	}
	switch len(mains) {
	case 0: // a library: compiled and tested, and only then is there nothing to package
	case 1:
		b.report.Main = mains[0]
	default:
		return reject(CauseManyMains, "%d main packages, name one: %s", len(mains), list(mains))
	}
	return nil
}

func list(mains []string) string {
	if len(mains) == 0 {
		return "none"
	}
	return strings.Join(mains[:min(len(mains), 10)], ", ")
}

func (b *build) compile(ctx context.Context) error {
	err := b.goCommand(ctx, b.log, "build", "-trimpath", "./...") // as it is packaged, so that it is compiled once
	return exited(err, CauseCompile, "go build: "+lastLine(b.log))
}

func (b *build) test(ctx context.Context) error {
	profile := filepath.Join(b.spec.Output, "cover.out")
	if err := os.Remove(profile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tests := newTestReader(b.log)
	args := []string{"test", "-json", "-count=1", "-coverprofile=" + profile}
	if b.spec.TrimTests {
		asks, err := asksForPaths(b.spec.Dir)
		if err != nil {
			return err
		}
		if !asks {
			args = append(args, "-trimpath")
		}
	}
	err := b.goCommand(ctx, tests, append(args, "./...")...)
	b.report.Tests = tests.finish()
	if err != nil {
		return exited(err, CauseTests, failures(b.report.Tests, tests.broken))
	}
	measured, err := coverage.ReadFile(profile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no package, no profile
	}
	if err != nil {
		return err
	}
	b.report.Coverage, b.report.Statements = measured.Whole()
	b.report.Profile = profile
	return nil
}

func (b *build) pack(ctx context.Context) error {
	if b.report.Main == "" {
		return reject(CauseNoMain, "no main package in %s: nothing to package", b.report.Module)
	}
	// A folder of its own: the name is the project's choice and must not meet build.log.
	executable := filepath.Join(b.spec.Output, "bin", path.Base(b.report.Main))
	err := b.goCommand(ctx, b.log, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", executable, b.report.Main)
	if err != nil {
		return exited(err, CauseCompile, "go build: "+lastLine(b.log))
	}
	f, err := os.Open(executable)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	if err != nil {
		return err
	}
	b.report.Executable, b.report.Size = executable, size
	b.report.Digest = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	return nil
}

// lastLine is what a command said last, for a reason.
func lastLine(t *transcript) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(t.tail), []byte("\n"))
	line := string(bytes.TrimSpace(lines[len(lines)-1]))
	if len(line) > 300 {
		line = line[:300] + "…"
	}
	return line
}

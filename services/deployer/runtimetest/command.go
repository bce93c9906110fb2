//go:build linux

package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/executor"
)

// Command is a test of the project's own: it writes a report into the folder that it is run in.
type Command struct {
	Name string `json:"name"`
	Kind Kind   `json:"kind"`
	Run  string `json:"run"` // by /bin/sh
	// JUnit or SARIF is where its report is, within the folder.
	JUnit string `json:"junit,omitempty"`
	SARIF string `json:"sarif,omitempty"`
	// Level is the least of SARIF that fails it: error, warning or note; empty: warning.
	Level   string        `json:"level,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"` // 0: DefaultTimeout
}

const (
	// DefaultTimeout is a Command's.
	DefaultTimeout = 5 * time.Minute

	mostReport = 16 << 20
	mostSaid   = 2000 // bytes of what a command printed that a reason quotes
	mostNamed  = 5    // failures that a reason names
)

// Host runs Commands, apart from the machine where its kernel lets it.
type Host struct {
	Process *executor.Process
	Hidden  []string // files and folders that none of them may read, but for the executable that is tested
}

// command runs a test of the project's own, with a folder and an environment of its own, and ends all that it started.
func (h Host) command(ctx context.Context, instance Instance, test Command, r *Result) error {
	if h.Process == nil {
		return errors.New("there is no host to run it")
	}
	folder, err := os.MkdirTemp("", "runtimetest-")
	if err != nil {
		return err
	}
	defer func() { _ = executor.RemoveAll(folder) }()
	timeout := test.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	step := executor.Step{
		Name: test.Name, Dir: folder, Network: true, Hidden: h.Hidden, Limits: executor.Limits{Time: timeout},
		Script: "set +e; " + test.Run, // a step of a pipeline ends with the first command that fails, a test does not
	}
	artifact := instance.Executable
	if artifact != "" {
		if artifact, err = resolved(artifact); err != nil {
			return err
		}
		step.Shown = []string{artifact}
	}
	step.Environment = []string{"URL=" + instance.URL, fmt.Sprintf("PORT=%d", instance.Port), "ARTIFACT=" + artifact, "DIGEST=" + instance.Digest}
	var said tail
	ended, err := h.Process.Run(ctx, step, &said)
	r.Unisolated = ended.Unisolated
	switch {
	case err != nil:
		return err
	case ended.Cause == executor.CauseTimeLimit:
		return fmt.Errorf("it took longer than %s%s", timeout, said.quoted())
	case !ended.Succeeded() && ended.Cause != executor.CauseExit:
		return fmt.Errorf("it was ended: %s%s", ended.Reason, said.quoted())
	}
	report, read := test.JUnit, junit
	if test.SARIF != "" {
		report, read = test.SARIF, func(in io.Reader, r *Result) error { return sarif(in, test.Level, r) }
	}
	err = readReport(folder, report, r, read)
	switch {
	case err != nil && !ended.Succeeded():
		return fmt.Errorf("%w (%s)%s", err, ended.Reason, said.quoted())
	case err != nil:
		return err
	case !ended.Succeeded():
		return fmt.Errorf("its report has no failure, but it ended with %s%s", strings.TrimPrefix(ended.Reason, "ended by "), said.quoted())
	}
	return nil
}

// resolved is a file's name without links: what is shown of the machine has its names, and not the links between them.
func resolved(file string) (string, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(file)
}

func readReport(folder, name string, r *Result, read func(io.Reader, *Result) error) error {
	root, err := os.OpenRoot(folder) // a link shall not lead out of it
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("it wrote no report %s", name)
	case err != nil:
		return fmt.Errorf("its report: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("its report %s is no file", name)
	case info.Size() > mostReport:
		return fmt.Errorf("its report %s has %d bytes; there may be %d", name, info.Size(), mostReport)
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return read(f, r)
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p[max(0, len(p)-mostSaid):]...)
	t.kept = slices.Delete(t.kept, 0, max(0, len(t.kept)-mostSaid))
	return len(p), nil
}

func (t *tail) quoted() string {
	if text := strings.TrimSpace(strings.ToValidUTF8(string(t.kept), "�")); text != "" {
		return ": " + text
	}
	return ""
}

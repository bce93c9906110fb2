//go:build linux

package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
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

// command runs a test of the project's own, with a folder and an environment of its own, and ends all of its group.
func command(ctx context.Context, instance Instance, test Command, r *Result) error {
	folder, err := os.MkdirTemp("", "runtimetest-")
	if err != nil {
		return err
	}
	defer remove(folder)
	timeout := test.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var said tail
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", test.Run)
	cmd.Dir, cmd.Stdout, cmd.Stderr = folder, &said, &said
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + folder, "TMPDIR=" + folder, "URL=" + instance.URL,
		fmt.Sprintf("PORT=%d", instance.Port), "ARTIFACT=" + instance.Executable, "DIGEST=" + instance.Digest}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	group := func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	cmd.Cancel, cmd.WaitDelay = group, 100*time.Millisecond
	ended := cmd.Run()
	if errors.Is(ended, exec.ErrWaitDelay) {
		ended = nil // what it left in the background holds its output open
	}
	if cmd.Process != nil {
		_ = group() // what it left in the background
	}
	if ctx.Err() != nil {
		return fmt.Errorf("it took longer than %s%s", timeout, said.quoted())
	}
	report, read := test.JUnit, junit
	if test.SARIF != "" {
		report, read = test.SARIF, func(in io.Reader, r *Result) error { return sarif(in, test.Level, r) }
	}
	err = readReport(folder, report, r, read)
	switch {
	case err != nil && ended != nil:
		return fmt.Errorf("%w (%w)%s", err, ended, said.quoted())
	case err != nil:
		return err
	case ended != nil:
		return fmt.Errorf("its report has no failure, but it ended with %w%s", ended, said.quoted())
	}
	return nil
}

// remove removes a folder, with folders in it that may not be written to, as those of Go's modules.
func remove(folder string) {
	if os.RemoveAll(folder) == nil {
		return
	}
	_ = filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o700) //nolint:gosec // a folder
		}
		return nil
	})
	_ = os.RemoveAll(folder)
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

package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// What git may see of the host: how to reach the network, nothing that changes its behaviour.
var passed = []string{
	"PATH", "TMPDIR", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
}

var fixed = []string{
	"LC_ALL=C",
	"HOME=/nonexistent",
	"GIT_CONFIG_GLOBAL=/dev/null",
	"GIT_CONFIG_NOSYSTEM=1",
	"GIT_ATTR_NOSYSTEM=1",
	"GIT_TERMINAL_PROMPT=0",
	"GIT_ASKPASS=",
	"SSH_ASKPASS=",
	"GIT_SSH_COMMAND=ssh -oBatchMode=yes",
	"GIT_ALLOW_PROTOCOL=file:https:http:ssh:git",
	"GIT_NO_REPLACE_OBJECTS=1", // a replace ref must not change what a commit means
	"GIT_NO_LAZY_FETCH=1",      // what is not there is not there
}

var settings = []string{
	"-c", "core.hooksPath=/dev/null",
	"-c", "core.fsmonitor=false",
	"-c", "core.quotePath=false",
	"-c", "gc.autoDetach=false", // no process may outlive the command
	"-c", "advice.detachedHead=false",
}

// failure is a git command that ended with a non-zero status.
type failure struct {
	verb   string
	status int
	stderr string
}

func (f *failure) Error() string {
	return fmt.Sprintf("git %s: exit status %d: %s", f.verb, f.status, f.stderr)
}

func status(err error) int {
	var f *failure
	if errors.As(err, &f) {
		return f.status
	}
	return -1
}

func command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	all := append([]string{}, settings...)
	if dir != "" {
		all = append(all, "--git-dir="+dir)
	}
	cmd := exec.CommandContext(ctx, "git", append(all, args...)...)
	for _, name := range passed {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Env = append(cmd.Env, fixed...)
	// A group of its own: git's transports are processes too, and end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// run starts git and returns what it printed; env is added to the cleaned environment.
func run(ctx context.Context, dir string, stdin io.Reader, env []string, args ...string) (string, error) {
	cmd := command(ctx, dir, args...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdin = stdin
	out, complaint := printed{left: mostPrinted}, printed{left: mostPrinted}
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if out.over || complaint.over {
		return "", fmt.Errorf("git %s: %w: it fills more than %d bytes to list", args[0], ErrTooLarge, mostPrinted)
	}
	return out.text.String(), verdict(ctx, args[0], err, complaint.text.String())
}

// mostPrinted is how much git may print, in bytes: far above what it says of MaxFiles. A few objects can stand for any number of
// files.
const mostPrinted = 128 << 20

// printed keeps what git prints; beyond its bound git is ended.
type printed struct {
	text bytes.Buffer // not embedded: it would be read into past the bound
	left int
	over bool
}

func (p *printed) Write(b []byte) (int, error) {
	if p.left -= len(b); p.left < 0 {
		p.over = true
		return 0, ErrTooLarge
	}
	return p.text.Write(b)
}

func verdict(ctx context.Context, verb string, err error, stderr string) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("git %s: %w", verb, ctx.Err())
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		stderr = strings.TrimSpace(stderr)
		if len(stderr) > 2000 {
			stderr = stderr[len(stderr)-2000:]
		}
		return &failure{verb: verb, status: exit.ExitCode(), stderr: stderr}
	}
	return fmt.Errorf("git %s: %w", verb, err)
}

func (r *Repository) git(ctx context.Context, args ...string) (string, error) {
	return run(ctx, r.dir, nil, r.env(), args...)
}

// env lets git read what an origin nearby has, wherever it would look into the repository.
func (r *Repository) env() []string {
	if r.near == "" {
		return nil
	}
	return []string{"GIT_ALTERNATE_OBJECT_DIRECTORIES=" + filepath.Join(r.near, "objects")}
}

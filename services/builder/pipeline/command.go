package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// What of the host's Go a build uses: where modules come from and are kept, and which toolchain.
var inherited = []string{
	"GOMODCACHE", "GOCACHE", "GOPROXY", "GOSUMDB", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOINSECURE", "GOVCS", "GOTOOLCHAIN",
}

var passed = []string{
	"PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
}

// environment is the whole environment of a build. home is a private folder that ends with it.
func environment(ctx context.Context, dir, home string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"env", "-json"}, inherited...)...)
	cmd.Dir = home // not the checkout: its go.mod must not choose what is asked here
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	host := map[string]string{}
	if err := json.Unmarshal(out, &host); err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	temp := filepath.Join(home, "tmp")
	// Go counts its use in the configuration folder, by a process of its own, unless told not to.
	telemetry := filepath.Join(home, ".config", "go", "telemetry")
	for _, folder := range []string{temp, telemetry} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(telemetry, "mode"), []byte("off"), 0o600); err != nil {
		return nil, err
	}
	env := []string{
		"HOME=" + home, "XDG_CONFIG_HOME=" + filepath.Join(home, ".config"), "TMPDIR=" + temp,
		"LC_ALL=C", "CI=true", "CGO_ENABLED=0", "GOENV=off", "GOFLAGS=-buildvcs=false",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", // go fetches modules over git too
	}
	if _, err := os.Stat(filepath.Join(dir, "go.work")); err != nil {
		env = append(env, "GOWORK=off") // a go.work above the checkout is none of its business
	}
	for _, name := range passed {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	for _, name := range inherited {
		env = append(env, name+"="+host[name])
	}
	return env, nil
}

// goCommand runs the go command in the checkout and ends all that it started. Its standard output
// goes to out, everything else to the log. A non-zero exit is a *exec.ExitError.
func (b *build) goCommand(ctx context.Context, out io.Writer, args ...string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	b.log.onFull(func() { cancel(errOutputLimit) })
	defer b.log.onFull(nil)

	_, _ = fmt.Fprintf(b.log, "$ go %s\n", quoted(args))
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = b.spec.Dir, b.env
	cmd.Stdout, cmd.Stderr = out, b.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("go %s: %w", args[0], err)
	}
	err := cmd.Wait()
	// What a test left running (and kept our pipe open) ends here.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		err = nil // go itself ended well; only the left-over held on
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func quoted(args []string) string {
	var b bytes.Buffer
	for i, a := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(a)
	}
	return b.String()
}

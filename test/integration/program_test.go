package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// built is the folder of the programs, once they are.
var built string

// programs builds programs of the workspace, once a test run, and returns their folder.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lemnis-programs-")
	if err != nil {
		return "", err
	}
	built = dir
	for _, pkg := range []string{
		"../../cmd/lemnis",
		"../../services/planner/cmd/lemnis-planner", "../../services/builder/cmd/lemnis-builder", "../../services/deployer/cmd/lemnis-deployer",
		"../../services/monitor/cmd/lemnis-monitor", "../../services/feedback/cmd/lemnis-feedback", "../../services/gateway/cmd/lemnis-gateway",
		"github.com/nats-io/nats-server/v2",
	} {
		args := []string{"build", "-o", dir + "/"}
		if strings.HasPrefix(pkg, "github.com/") {
			args[2] = filepath.Join(dir, "nats-server")
		}
		if out, err := exec.Command("go", append(args, pkg)...).CombinedOutput(); err != nil {
			return dir, fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// program is a running process of this test's.
type program struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}
	err  error
}

// start runs a program; it is ended with the test, in order.
func start(t testing.TB, name string, env []string, args ...string) *program {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(t.TempDir(), filepath.Base(name)+".log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, name: filepath.Base(name), cmd: exec.Command(name, args...), log: log, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(p.stop)
	return p
}

// kill is kill -9.
func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop asks it to end, as an operator does, and shows its log when the test has failed.
func (p *program) stop() {
	select {
	case <-p.done:
	default:
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
			if p.err != nil {
				p.t.Errorf("%s ended with %v", p.name, p.err)
			}
		case <-time.After(40 * time.Second):
			p.t.Errorf("%s does not end on SIGTERM", p.name)
			p.kill()
		}
	}
	if p.t.Failed() {
		if text, err := os.ReadFile(p.log.Name()); err == nil {
			p.t.Logf("%s said:\n%s", p.name, text[max(0, len(text)-8000):])
		}
	}
	_ = p.log.Close()
}

// freePort is a port that nobody listens on now.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// answers waits until a URL answers 200, or a program has ended.
func answers(t testing.TB, url string, p *program) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := http.DefaultClient.Do(r); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				tick.Stop()
				return
			}
		} else if errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%s did not answer 200: %v", url, err)
		}
		select {
		case <-p.done:
			t.Fatalf("%s ended with %v", p.name, p.err)
		case <-tick.C:
		}
	}
}

// waitForSocket waits until something takes connections there.
func waitForSocket(t *testing.T, path string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		if c, err := net.Dial("unix", path); err == nil {
			_ = c.Close()
			tick.Stop()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing listens at %s", path)
		}
	}
}

package executor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/executor/executortest"
)

// serves is the change of an image whose program listens.
const serves = `CMD ["/test", "-test.run=^TestServe$"]`

func TestServicesAreReachedByName(t *testing.T) {
	t.Parallel()
	byPort := executortest.Image(t, serves, "EXPOSE 7000", "EXPOSE 7999")
	byHealth := executortest.Image(t, serves, `HEALTHCHECK --interval=200ms CMD ["/test", "-test.run=^TestDial$"]`)
	plain := executortest.Image(t)
	beside := []executor.Service{
		{Name: "db", Image: byPort, Environment: []string{"SERVE=:7000"}},
		{Name: "cache", Image: byHealth, Environment: []string{"SERVE=:7001", "DIAL=127.0.0.1:7001"}},
		{Name: "queue", Image: byHealth, Environment: []string{"SERVE=127.0.0.1:7002"}, Port: 7002},
	}
	for where, step := range map[string]executor.Step{
		"in an image": {Image: plain, Script: "for at in db:7000 cache:7001 queue:7002; do DIAL=$at /test -test.run=^TestDial$; done"},
		"on the host": {Script: "for at in db:7000 cache:7001 queue:7002; do DIAL=$at " + self(t) + " -test.run=^TestDial$; done; ls /sys/class/net; id -un", ReadOnly: []string{self(t)}},
	} {
		step.Beside = beside
		got, out := contained(t, step)
		for _, greeting := range []string{"hello from :7000", "hello from :7001", "hello from 127.0.0.1:7002"} {
			if !got.Succeeded() || !strings.Contains(out, greeting) || len(got.Images) < 2 {
				t.Errorf("%s: %+v: %s", where, got, out)
			}
		}
		if where == "on the host" && !strings.HasSuffix(out, "lo\nstep\n") && !strings.HasSuffix(out, "lo\nroot\n") {
			t.Errorf("%s: reaches more, or has no name: %s", where, out)
		}
	}
}

func self(t *testing.T) string {
	t.Helper()
	at, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestAServiceThatDoesNotComeUpIsSaid(t *testing.T) {
	t.Parallel()
	deaf := executortest.Image(t, "EXPOSE 7000", `CMD ["/bin/sleep", "600"]`)
	ends := executortest.Image(t, "EXPOSE 7000", `CMD ["/bin/sh", "-c", "echo no room; exit 4"]`)
	sick := executortest.Image(t, `HEALTHCHECK --interval=200ms CMD ["/bin/sh", "-c", "exit 1"]`, `CMD ["/bin/sleep", "600"]`)
	broken := executortest.Image(t, `CMD ["/no/such/program"]`)
	if got, _ := contained(t, executor.Step{Image: ends, Script: ":", Beside: []executor.Service{{Name: "db", Image: executortest.Image(t)}}}); got.Cause != executor.CauseImage || !strings.Contains(got.Reason, "No command specified") {
		t.Errorf("nothing to run: %+v", got)
	}
	for image, want := range map[string]string{
		deaf: "is not ready after 1s: nobody listens to port 7000", ends: "has ended, with status 4", sick: "health check has not passed", broken: "does not start",
	} {
		got, out := contained(t, executor.Step{Image: image, Script: "echo began", Limits: executor.Limits{Time: time.Second}, Beside: []executor.Service{{Name: "db", Image: image}}})
		if got.Cause != executor.CauseService || !strings.Contains(got.Reason, want) || !strings.Contains(got.Reason, "service db") || strings.Contains(out, "began") {
			t.Errorf("want %q: %+v: %s", want, got, out)
		}
		if image == ends && !strings.Contains(out, "db: no room\n") {
			t.Errorf("does not show why: %s", out)
		}
	}
}

func TestServicesGoWithACancelledStep(t *testing.T) {
	t.Parallel()
	image, api := executortest.Image(t, serves, "EXPOSE 7000"), executortest.Engine(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	step := executor.Step{Name: t.Name(), Image: image, Dir: t.TempDir(), Script: "echo up; sleep 600",
		Beside: []executor.Service{{Name: "db", Image: image, Environment: []string{"SERVE=:7000"}}}}
	out := first{make(chan struct{}, 1)}
	go func() {
		<-out.wrote
		if there := containers(t, api, t.Name()); len(there) != 2 {
			t.Errorf("there are %v", there)
		}
		cancel(errors.New("no longer wanted"))
	}()
	if _, err := executor.NewDocker(t.TempDir()).Run(ctx, step, out); err == nil || err.Error() != "no longer wanted" {
		t.Error(err)
	}
	if left := containers(t, api, t.Name()); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// Cancelled before its service was there.
	step.Beside[0].Environment = nil
	ctx, cancel = context.WithCancelCause(t.Context())
	cancel(errors.New("not begun"))
	if _, err := executor.NewDocker(t.TempDir()).Run(ctx, step, io.Discard); err == nil || err.Error() != "not begun" {
		t.Error(err)
	}
	if left := containers(t, api, t.Name()); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A step of the host sees the same beside services as without.
func TestBesideServicesTheHostIsTheSame(t *testing.T) {
	t.Parallel()
	image := executortest.Image(t, serves, "EXPOSE 7000")
	shown, hidden, upper := t.TempDir(), t.TempDir(), t.TempDir()
	key := filepath.Join(shown, "key")
	for _, at := range []string{key, filepath.Join(shown, "word"), filepath.Join(hidden, "key")} {
		if err := os.WriteFile(at, []byte("hunter2"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(upper, "upper"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(upper, "upper", "built"), []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, out := contained(t, executor.Step{
		Script: fmt.Sprintf("echo key $(cat %s) word $(cat %s/word) folder $(ls %s) layer $(cat /layer/built); echo after >/layer/made", key, shown, hidden),
		Beside: []executor.Service{{Name: "db", Image: image, Environment: []string{"SERVE=:7000"}}},
		// Each twice, and what is hidden also by the name that it is shown by.
		ReadOnly: []string{shown, key, hidden}, Hidden: []string{key, key, hidden, hidden + "/"}, Layers: []executor.Layer{{Target: "/layer", Upper: upper}},
	})
	if !got.Succeeded() || out != "key word hunter2 folder layer before\n" {
		t.Errorf("%+v: %s", got, out)
	}
	if made, err := os.ReadFile(filepath.Join(upper, "upper", "made")); err != nil || string(made) != "after\n" {
		t.Errorf("%q %v", made, err)
	}
}

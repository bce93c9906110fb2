package executor_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/executor/executortest"
)

// contained runs a step in a container, and makes sure that nothing of it is left.
func contained(t *testing.T, step executor.Step) (executor.Result, string) {
	t.Helper()
	api := executortest.Engine(t)
	if step.Dir == "" {
		step.Dir = t.TempDir()
	}
	step.Name = t.Name()
	var out bytes.Buffer
	result, err := executor.NewDocker(t.TempDir()).Run(t.Context(), step, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if left := containers(t, api, t.Name()); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	return result, out.String()
}

// containers are those of a step that there are.
func containers(t *testing.T, api *client.Client, step string) (ids []string) {
	t.Helper()
	all, err := api.ContainerList(t.Context(), client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", "dev.lemnis.step.name="+step)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all.Items {
		ids = append(ids, c.ID)
	}
	return ids
}

func TestAnImageRunsTheScriptInItsFolder(t *testing.T) {
	t.Parallel()
	image := executortest.Image(t)
	dir := t.TempDir()
	got, out := contained(t, executor.Step{Image: image, Dir: dir, At: "/work", Environment: []string{"GREETING=hello"},
		Script: `echo $GREETING >made; cat made; echo to stderr >&2; pwd; env | awk -F= '{print $1}' | sort; touch $HOME/a $TMPDIR/b`})
	if !got.Succeeded() || !strings.HasPrefix(out, "hello\nto stderr\n/work\n") {
		t.Fatalf("%+v: %s", got, out)
	}
	if _, names, _ := strings.Cut(out, "/work\n"); strings.Join(strings.Fields(names), " ") != "CI GREETING HOME HOSTNAME LC_ALL PATH PWD TMPDIR" {
		t.Errorf("environment: %s", names)
	}
	if made, err := os.ReadFile(filepath.Join(dir, "made")); err != nil || string(made) != "hello\n" {
		t.Errorf("left %q, %v", made, err)
	}
	if digest := got.Images[image]; !strings.HasPrefix(digest, "sha256:") || len(got.Images) != 1 {
		t.Errorf("ran in %v", got.Images)
	}
}

func TestWhatAContainerCanNotBeMadeOfIsSaid(t *testing.T) {
	t.Parallel()
	executortest.Engine(t)
	for image, want := range map[string]executor.Result{
		"localhost:1/no/such:image": {Cause: executor.CauseImage, Reason: "image localhost:1/no/such:image is not here, and can not be pulled: "},
		"No Such Image":             {Cause: executor.CauseImage, Reason: "image No Such Image"},
		executortest.Empty(t):       {Cause: executor.CauseImage, Reason: "has no /bin/sh"},
	} {
		got, out := contained(t, executor.Step{Image: image, Script: "echo began"})
		if got.Cause != want.Cause || !strings.Contains(got.Reason, want.Reason) || strings.Contains(out, "began\n") {
			t.Errorf("%s: %+v: %s", image, got, out)
		}
	}
}

// An engine that was named and does not answer may yet: no change is to blame.
func TestAnEngineThatDoesNotAnswerIsAFault(t *testing.T) {
	for _, engine := range []string{"unix://" + filepath.Join(t.TempDir(), "nobody.sock"), executortest.Through(t, func(w http.ResponseWriter, r *http.Request) bool {
		http.Error(w, `{"message":"starting up"}`, http.StatusServiceUnavailable)
		return true
	})} {
		t.Setenv("DOCKER_HOST", engine)
		for _, step := range []executor.Step{{Image: "golang:1.26"}, {Beside: []executor.Service{{Name: "db", Image: "postgres:16"}}}} {
			step.Dir, step.Script = t.TempDir(), "echo began"
			var out bytes.Buffer
			got, err := executor.NewDocker(t.TempDir()).Run(t.Context(), step, &out)
			if err == nil || !strings.Contains(err.Error(), "does not answer") || got.Cause != "" || out.Len() > 0 {
				t.Errorf("%+v %v: %s", got, err, out.String())
			}
		}
	}
}

// A container that can not be removed keeps nobody from running steps, and is not forgotten.
func TestWhatCanNotBeRemovedIsTriedAgainLater(t *testing.T) {
	image, api, folder := executortest.Image(t), executortest.Engine(t), t.TempDir()
	note := filepath.Join(folder, rand.Text())
	for _, at := range []string{note, filepath.Join(folder, "lock")} {
		if err := os.WriteFile(at, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	made, err := api.ContainerCreate(t.Context(), client.ContainerCreateOptions{Config: &container.Config{Image: image, Cmd: []string{"/bin/sleep", "600"},
		Labels: map[string]string{"dev.lemnis.step": filepath.Base(note), "dev.lemnis.step.name": t.Name()}}})
	if err != nil {
		t.Fatal(err)
	}
	engine := executortest.Through(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodDelete || !strings.HasSuffix(r.URL.Path, "/containers/"+made.ID) {
			return false
		}
		http.Error(w, `{"message":"device busy"}`, http.StatusInternalServerError)
		return true
	})
	t.Run("stuck", func(t *testing.T) {
		t.Setenv("DOCKER_HOST", engine)
		if err := executor.NewDocker(folder).Sweep(t.Context()); err == nil || !strings.Contains(err.Error(), "device busy") {
			t.Error(err)
		}
		d := executor.NewDocker(folder)
		for range 2 {
			var out bytes.Buffer
			if got, err := d.Run(t.Context(), executor.Step{Image: image, Dir: t.TempDir(), Script: "echo began"}, &out); err != nil || !got.Succeeded() || !strings.HasSuffix(out.String(), "began\n") {
				t.Errorf("%+v %v: %s", got, err, out.String())
			}
		}
		if _, err := os.Stat(note); err != nil {
			t.Error(err)
		}
	})
	if err := executor.NewDocker(folder).Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if left := containers(t, api, t.Name()); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := os.Stat(note); !os.IsNotExist(err) {
		t.Error("its note is still there:", err)
	}
}

func TestLimitsOfAContainer(t *testing.T) {
	t.Parallel()
	image := executortest.Image(t)
	for name, c := range map[string]struct {
		script string
		limits executor.Limits
		cause  executor.Cause
		reason string
	}{
		"status":                 {"exit 3", executor.Limits{}, executor.CauseExit, "exit status 3"},
		"time":                   {"sleep 600", executor.Limits{Time: time.Second}, executor.CauseTimeLimit, "not done after 1s"},
		"time, ignores SIGTERM":  {"trap '' TERM; while :; do sleep 600; done", executor.Limits{Time: time.Second, Grace: 100 * time.Millisecond}, executor.CauseTimeLimit, "not done"},
		"prints for ever":        {"yes", executor.Limits{Output: 1 << 20}, executor.CauseOutputLimit, "more than 1048576 bytes"},
		"takes memory":           {`awk 'BEGIN { s = "x"; while (1) s = s s }'; :`, executor.Limits{Memory: 100 << 20}, executor.CauseMemoryLimit, "memory"},
		"many processes":         {"for i in $(seq 21); do sleep 600 & done; wait", executor.Limits{Processes: 20}, executor.CauseProcessLimit, "more than 20 processes"},
		"a file beyond its size": {"head -c 2097152 /dev/zero >big", executor.Limits{File: 1 << 20}, executor.CauseExit, "exit status 153"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, out := contained(t, executor.Step{Image: image, Script: c.script, Limits: c.limits})
			if got.Cause != c.cause || !strings.Contains(got.Reason, c.reason) {
				t.Errorf("%+v: %.200s", got, out)
			}
			if most := c.limits.Output; most > 0 && int64(len(out)) != most {
				t.Errorf("printed %d bytes, %d allowed", len(out), most)
			}
		})
	}
}

func TestSIGTERMComesFirstInAContainer(t *testing.T) {
	t.Parallel()
	got, out := contained(t, executor.Step{Image: executortest.Image(t), Script: "trap 'echo tidied; exit 0' TERM; while :; do sleep 0.05; done",
		Limits: executor.Limits{Time: time.Second, Grace: time.Minute}})
	if got.Cause != executor.CauseTimeLimit || !strings.HasSuffix(out, "tidied\n") {
		t.Errorf("%+v: %s", got, out)
	}
}

func TestAContainerSeesAndReachesNothingElse(t *testing.T) {
	t.Parallel()
	image := executortest.Image(t)
	secret := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(secret, []byte("hunter2"), 0o644); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	port := listener.Addr().(*net.TCPAddr).Port
	for script, why := range map[string]string{
		"cat " + secret:                         "reads another job's file",
		"ln -s " + secret + " link && cat link": "reads it by a link",
		"echo x >/bin/x":                        "writes a program of the image",
		"echo x >/x":                            "writes beside its folder",
		"ls /var/run/docker.sock":               "sees the engine",
		"awk '/^CapEff:\\t0+$/ { exit 1 }' /proc/self/status":                         "has a capability",
		fmt.Sprintf("/test -test.run=^TestDial$ -test.v=false || exit 1; : %d", port): "reaches a service of the machine",
	} {
		env := []string{fmt.Sprintf("DIAL=127.0.0.1:%d,172.17.0.1:%d", port, port)}
		if got, out := contained(t, executor.Step{Image: image, Script: script, Environment: env}); got.Succeeded() || strings.Contains(out, "hunter2") {
			t.Errorf("%s (%s): %s", why, script, out)
		}
	}
	if got, out := contained(t, executor.Step{Image: image, Script: "id -u; awk '/^[0-9]+$/' /dev/null; ls /sys/class/net"}); !got.Succeeded() || out != fmt.Sprintf("%d\nlo\n", os.Geteuid()) {
		t.Errorf("%+v: %s", got, out)
	}
	if got, out := contained(t, executor.Step{Image: image, Script: "ls /sys/class/net", Network: true}); !got.Succeeded() || !strings.Contains(out, "eth0") {
		t.Errorf("with the network: %+v: %s", got, out)
	}
}

// TestDial is run in containers: it succeeds when it reaches one of DIAL.
func TestDial(t *testing.T) {
	if os.Getenv("DIAL") == "" {
		return
	}
	for _, at := range strings.Split(os.Getenv("DIAL"), ",") {
		if c, err := net.DialTimeout("tcp", at, 5*time.Second); err == nil {
			said, _ := io.ReadAll(c)
			fmt.Printf("%s", said)
			return
		}
	}
	t.Error("reached nobody")
}

// TestServe is run in containers: it says hello to whoever comes to SERVE.
func TestServe(t *testing.T) {
	if os.Getenv("SERVE") == "" {
		return
	}
	fmt.Println("serves", os.Getenv("SERVE"))
	listener, err := net.Listen("tcp", os.Getenv("SERVE"))
	if err != nil {
		t.Fatal(err)
	}
	for {
		c, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintln(c, "hello from", os.Getenv("SERVE"))
		_ = c.Close()
	}
}

func TestACancelledContainerIsGone(t *testing.T) {
	t.Parallel()
	image, api := executortest.Image(t), executortest.Engine(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	out := first{make(chan struct{}, 1)}
	go func() {
		<-out.wrote
		cancel(errors.New("no longer wanted"))
	}()
	_, err := executor.NewDocker(t.TempDir()).Run(ctx, executor.Step{Name: t.Name(), Image: image, Dir: t.TempDir(),
		Script: "(setsid sh -c 'trap \"\" TERM; while :; do sleep 600; done' &); trap '' TERM; echo up; while :; do sleep 600; done",
		Limits: executor.Limits{Grace: 50 * time.Millisecond}}, out)
	if err == nil || err.Error() != "no longer wanted" {
		t.Error(err)
	}
	if left := containers(t, api, t.Name()); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A process that is killed leaves containers; the next one on its folder removes them, and no other's.
func TestWhatAKilledProcessLeftIsRemoved(t *testing.T) {
	if folder := os.Getenv("TOIL"); folder != "" {
		result, err := executor.NewDocker(folder).Run(t.Context(), executor.Step{Name: os.Getenv("TOIL_NAME"), Image: os.Getenv("TOIL_IMAGE"), Dir: t.TempDir(), Script: "echo up; sleep 600",
			Beside: []executor.Service{{Name: "db", Image: os.Getenv("TOIL_IMAGE"), Environment: []string{"SERVE=:7000"}}}}, os.Stdout)
		t.Fatalf("%+v %v", result, err)
	}
	t.Parallel()
	image, api, folder := executortest.Image(t, serves), executortest.Engine(t), t.TempDir()
	begin := func(name string) *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^TestWhatAKilledProcessLeftIsRemoved$")
		cmd.Env = append(os.Environ(), "TOIL="+folder, "TOIL_NAME="+name, "TOIL_IMAGE="+image)
		said, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		up := make([]byte, 3)
		if _, err := io.ReadFull(said, up); err != nil || string(up) != "up\n" {
			t.Fatalf("%q %v", up, err)
		}
		return cmd
	}
	killed, living := begin(t.Name()+"-killed"), begin(t.Name()+"-living")
	_ = killed.Process.Kill()
	_ = killed.Wait()
	if left := containers(t, api, t.Name()+"-killed"); len(left) != 2 {
		t.Fatalf("there are %v", left)
	}
	if err := executor.NewDocker(folder).Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := containers(t, api, t.Name()+"-killed"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if there := containers(t, api, t.Name()+"-living"); len(there) != 2 {
		t.Errorf("of the one that lives: %v", there)
	}
	_ = living.Process.Kill()
	_ = living.Wait()
	if err := executor.NewDocker(folder).Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := containers(t, api, t.Name()+"-living"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

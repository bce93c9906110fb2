package executor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lemnis/lemnis/internal/executor"
)

// host is the executor of the host with the given isolation. A machine without namespaces can not show what they keep apart.
func host(t *testing.T, isolation executor.Isolation) *executor.Process {
	t.Helper()
	p := executor.NewProcess(isolation)
	if ok, why, err := p.Isolated(t.Context()); err != nil {
		t.Fatal(err)
	} else if !ok && isolation != executor.None {
		t.Skipf("SKIPPED: that namespaces keep a step apart was NOT shown: %s", why)
	}
	return p
}

func run(t *testing.T, p *executor.Process, step executor.Step) (executor.Result, string) {
	t.Helper()
	if step.Dir == "" {
		step.Dir = t.TempDir()
	}
	var out bytes.Buffer
	result, err := p.Run(t.Context(), step, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return result, out.String()
}

// each runs a test with namespaces and without: what both promise.
func each(t *testing.T, test func(t *testing.T, p *executor.Process)) {
	t.Helper()
	for _, isolation := range []executor.Isolation{executor.Required, executor.None} {
		t.Run(string(isolation), func(t *testing.T) {
			t.Parallel()
			test(t, host(t, isolation))
		})
	}
}

func TestAScriptRunsInItsFolder(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p *executor.Process) {
		dir := t.TempDir()
		result, out := run(t, p, executor.Step{Dir: dir, Environment: []string{"GREETING=hello"},
			Script: `echo $GREETING >made; cat made; echo to stderr >&2; env | cut -d= -f1 | sort | tr '\n' ' '; touch $HOME/a $TMPDIR/b`})
		if !result.Succeeded() || !strings.HasPrefix(out, "hello\nto stderr\n") {
			t.Fatalf("%+v: %s", result, out)
		}
		if _, names, _ := strings.Cut(out, "to stderr\n"); strings.Join(strings.Fields(names), " ") != "CI GREETING HOME LC_ALL PATH PWD TMPDIR" {
			t.Errorf("environment: %s", names)
		}
		if made, err := os.ReadFile(filepath.Join(dir, "made")); err != nil || string(made) != "hello\n" {
			t.Errorf("left %q, %v", made, err)
		}
	})
}

func TestAFailureSaysHow(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p *executor.Process) {
		for script, want := range map[string]executor.Result{
			"exit 3":           {Exit: 3, Cause: executor.CauseExit, Reason: "exit status 3"},
			"false; echo on":   {Exit: 1, Cause: executor.CauseExit, Reason: "exit status 1"},
			"kill -9 $$":       {Exit: 137, Cause: executor.CauseExit, Reason: "ended by signal 9 (killed)"},
			"no-such-command!": {Exit: 127, Cause: executor.CauseExit, Reason: "exit status 127"},
		} {
			got, out := run(t, p, executor.Step{Script: script})
			if got.Unisolated = ""; !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, want %+v: %s", script, got, want, out)
			}
		}
	})
}

func TestLimits(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p *executor.Process) {
		for name, c := range map[string]struct {
			script string
			limits executor.Limits
			cause  executor.Cause
			reason string
		}{
			"time":                   {"sleep 600", executor.Limits{Time: 200 * time.Millisecond}, executor.CauseTimeLimit, "not done after 200ms"},
			"time, ignores SIGTERM":  {"trap '' TERM; while :; do sleep 600; done", executor.Limits{Time: 200 * time.Millisecond, Grace: 100 * time.Millisecond}, executor.CauseTimeLimit, "not done"},
			"prints for ever":        {"yes", executor.Limits{Output: 1 << 20}, executor.CauseOutputLimit, "more than 1048576 bytes"},
			"takes memory":           {`exec awk 'BEGIN { s = "x"; while (1) s = s s }'`, executor.Limits{Memory: 100 << 20}, executor.CauseMemoryLimit, "memory"},
			"many processes":         {"for i in $(seq 60); do sleep 600 & done; wait", executor.Limits{Processes: 20}, executor.CauseProcessLimit, "more than 20 processes"},
			"a file beyond its size": {"exec head -c 2097152 /dev/zero >big", executor.Limits{File: 1 << 20}, executor.CauseExit, "ended by signal 25"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				got, out := run(t, p, executor.Step{Script: c.script, Limits: c.limits})
				if got.Cause != c.cause || !strings.Contains(got.Reason, c.reason) {
					t.Errorf("%+v: %.200s", got, out)
				}
				if most := c.limits.Output; most > 0 && int64(len(out)) != most {
					t.Errorf("printed %d bytes, %d allowed", len(out), most)
				}
			})
		}
	})
}

func TestAForkBombIsOver(t *testing.T) {
	t.Parallel()
	p := host(t, executor.Required) // without a pid namespace it is the machine's to survive
	// Either the watch ends it, or the kernel's bound is met first and the shell can not fork.
	got, out := run(t, p, executor.Step{Script: "while :; do sleep 600 & done", Limits: executor.Limits{Processes: 40, Time: 5 * time.Minute}})
	if got.Cause != executor.CauseProcessLimit && (got.Cause != executor.CauseExit || !strings.Contains(out, "fork")) {
		t.Errorf("%+v: %s", got, out)
	}
	// One that grows faster than it is watched burns out at the kernel's bound.
	run(t, p, executor.Step{Script: "bomb() { bomb | bomb & }; bomb; wait", Limits: executor.Limits{Processes: 40, Time: 5 * time.Minute}})
}

// A process is told by a word in its command line, since its number in there is another than out here.
func alive(t *testing.T, word string) (pids []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if line, err := os.ReadFile("/proc/" + e.Name() + "/cmdline"); err == nil && bytes.Contains(line, []byte(word)) {
			pids = append(pids, e.Name())
		}
	}
	return pids
}

func gone(t *testing.T, word string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		if len(alive(t, word)) == 0 {
			return
		}
	}
	t.Errorf("still there: %v", alive(t, word))
}

// daemon leaves a process in a session of its own, whose parent is gone, and that ignores SIGTERM.
func daemon(word string) string {
	return fmt.Sprintf(`(setsid sh -c "trap '' TERM HUP; while :; do sleep 600; done; : %s" &) & wait; `, word)
}

func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p *executor.Process) {
		word := fmt.Sprintf("left-behind-%d-%s", os.Getpid(), filepath.Base(t.Name()))
		if got, out := run(t, p, executor.Step{Script: daemon(word) + "echo done"}); !got.Succeeded() || out != "done\n" {
			t.Errorf("%+v: %s", got, out)
		}
		gone(t, word)
	})
}

// first tells when something was written.
type first struct{ wrote chan struct{} }

func (f first) Write(p []byte) (int, error) {
	select {
	case f.wrote <- struct{}{}:
	default:
	}
	return len(p), nil
}

func TestCancelKillsTheWholeTree(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p *executor.Process) {
		word := fmt.Sprintf("cancelled-%d-%s", os.Getpid(), filepath.Base(t.Name()))
		ctx, cancel := context.WithCancelCause(t.Context())
		out := first{make(chan struct{}, 1)}
		go func() {
			<-out.wrote
			cancel(errors.New("no longer wanted"))
		}()
		_, err := p.Run(ctx, executor.Step{Dir: t.TempDir(), Script: daemon(word) + "trap '' TERM; echo up; while :; do sleep 600; done",
			Limits: executor.Limits{Grace: 50 * time.Millisecond}}, out)
		if err == nil || err.Error() != "no longer wanted" {
			t.Error(err)
		}
		gone(t, word)
	})
}

// What a cancelled step could not find out is not held against the kernel.
func TestACancelledStepDecidesNothingForLaterOnes(t *testing.T) {
	t.Parallel()
	granted := host(t, executor.Auto) // skips where there is nothing to lose
	p := executor.NewProcess(executor.Auto)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Run(ctx, executor.Step{Dir: t.TempDir(), Script: ":"}, io.Discard); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, p := range []*executor.Process{granted, p} {
		if result, _ := run(t, p, executor.Step{Script: "test $(id -u) = 1000"}); !result.Succeeded() || result.Unisolated != "" {
			t.Errorf("%+v", result)
		}
	}
	if result, _ := run(t, executor.NewProcess(executor.None), executor.Step{Script: ":"}); !strings.Contains(result.Unisolated, "switched off") {
		t.Errorf("%+v", result)
	}
}

func TestSIGTERMComesFirst(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p *executor.Process) {
		got, out := run(t, p, executor.Step{Script: "trap 'echo tidied; exit 0' TERM; while :; do sleep 0.05; done",
			Limits: executor.Limits{Time: 500 * time.Millisecond, Grace: time.Minute}})
		if got.Cause != executor.CauseTimeLimit || !strings.HasSuffix(out, "tidied\n") {
			t.Errorf("%+v: %s", got, out)
		}
	})
}

func TestAnIsolatedStepSeesAndReachesNothingElse(t *testing.T) {
	t.Parallel()
	p := host(t, executor.Required)
	others := t.TempDir()
	secret := filepath.Join(others, "credentials")
	if err := os.WriteFile(secret, []byte("hunter2"), 0o644); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	port := listener.Addr().(*net.TCPAddr).Port
	for script, why := range map[string]string{
		"cat " + secret:                          "reads another job's file",
		"ln -s " + secret + " link && cat link":  "reads it by a link",
		"ls " + others:                           "lists another job's folder",
		"cat /etc/shadow":                        "reads the machine's passwords",
		"ls /root /home/step/../../root/.ssh":    "looks into a home",
		"echo x >/usr/bin/x":                     "writes a program of the system",
		"echo x >/x":                             "writes beside its folder",
		"echo x >" + secret:                      "overwrites another job's file",
		"mount -t tmpfs none /usr":               "mounts",
		"mount -o remount,rw /":                  "makes the root writable again",
		"echo 4194304 >/proc/sys/kernel/pid_max": "raises its own limits",
		fmt.Sprintf("bash -c 'exec 3<>/dev/tcp/127.0.0.1/%d'", port): "reaches a service of the machine",
		"ls /proc/1/root/root":                       "leaves by its init's root",
		"cat /proc/1/environ":                        "reads its init's environment",
		fmt.Sprintf("test -e /proc/%d", os.Getpid()): "sees the process that runs it",
	} {
		if got, out := run(t, p, executor.Step{Script: script}); got.Succeeded() || strings.Contains(out, "hunter2") {
			t.Errorf("%s (%s): %s", why, script, out)
		}
	}
	if got, out := run(t, p, executor.Step{Script: "kill -9 1; kill -STOP 1; id -u; cat /proc/self/status | grep CapEff; test $(ls -d /proc/[0-9]* | wc -l) -lt 8"}); !got.Succeeded() || out != "1000\nCapEff:\t0000000000000000\n" {
		t.Errorf("%+v: %s", got, out)
	}
	// What is asked for is there.
	if got, out := run(t, p, executor.Step{Script: fmt.Sprintf("cat %s; bash -c 'exec 3<>/dev/tcp/127.0.0.1/%d'", secret, port), ReadOnly: []string{secret}, Network: true}); !got.Succeeded() || out != "hunter2" {
		t.Errorf("asked for: %+v: %s", got, out)
	}
	// What lies in a folder that is seen can be hidden, but for the step's own.
	own := filepath.Join(others, "own")
	if err := os.Mkdir(own, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, out := run(t, p, executor.Step{Script: "ls " + others, Dir: own, ReadOnly: []string{filepath.Dir(others)}, Hidden: []string{others}}); !got.Succeeded() || out != "own\n" {
		t.Errorf("hidden: %+v: %s", got, out)
	}
}

func TestProcessesOfAStepReachOneAnother(t *testing.T) {
	if os.Getenv("IN_A_STEP") != "" {
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := net.Dial("tcp4", listener.Addr().String()); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Parallel()
	p := host(t, executor.Required)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got, out := run(t, p, executor.Step{Script: self + " -test.run=^" + t.Name() + "$", ReadOnly: []string{self}, Environment: []string{"IN_A_STEP=1"}}); !got.Succeeded() {
		t.Errorf("%+v: %s", got, out)
	}
}

func TestCPULimit(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p *executor.Process) {
		if got, out := run(t, p, executor.Step{Script: "nproc", Limits: executor.Limits{CPU: 0.5}}); !got.Succeeded() || out != "1\n" {
			t.Errorf("%+v: %s", got, out)
		}
	})
}

// What can not be removed by the rights that were left is removed all the same; a step leaves no scratch.
func TestALostInitIsSaid(t *testing.T) {
	t.Parallel()
	p := host(t, executor.None)
	got, _ := run(t, p, executor.Step{Script: "kill -9 $PPID; sleep 600"})
	if got.Cause != executor.CauseKilled {
		t.Errorf("%+v", got)
	}
}

func TestImagesAreNotRunOnTheHost(t *testing.T) {
	t.Parallel()
	_, err := executor.NewProcess(executor.None).Run(t.Context(), executor.Step{Name: "lint", Image: "alpine", Script: ":", Dir: t.TempDir()}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "step lint: image alpine") {
		t.Error(err)
	}
}

// A script has the user of its init, and may lower what its init may open: it does not get away with it.
func TestAScriptDoesNotBlindItsInit(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p *executor.Process) {
		who := "1"
		if strings.HasSuffix(t.Name(), string(executor.None)) {
			who = "$PPID"
		}
		got, out := run(t, p, executor.Step{Script: "prlimit --pid " + who + " --nofile=0:0; for i in $(seq 30); do sleep 600 & done; wait",
			Limits: executor.Limits{Processes: 5, Time: 2 * time.Minute}})
		if got.Cause != "unwatched" || !strings.Contains(got.Reason, "limits") {
			t.Errorf("%+v: %s", got, out)
		}
	})
}

// Memory that processes share counts, and once.
func TestSharedMemoryCounts(t *testing.T) {
	if size := os.Getenv("SHARE_BYTES"); size != "" {
		share(t, size)
		return
	}
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, p *executor.Process) {
		for size, want := range map[string]executor.Cause{"200": executor.CauseMemoryLimit, "60": ""} {
			got, out := run(t, p, executor.Step{Script: self + " -test.run=^TestSharedMemoryCounts$", ReadOnly: []string{self},
				Environment: []string{"SHARE_BYTES=" + size}, Limits: executor.Limits{Memory: 150 << 20, Time: time.Minute}})
			if got.Cause != want {
				t.Errorf("%s MiB: %+v: %s", size, got, out)
			}
		}
	})
}

// share has three processes write all of the same memory, and stay until it was looked at, several times.
func share(t *testing.T, mebibytes string) {
	size, err := strconv.Atoi(mebibytes)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(3, "shared")
	if os.Getenv("SHARE_CHILD") == "" {
		fd, err := unix.MemfdCreate("shared", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		file = os.NewFile(uintptr(fd), "shared")
		if err := file.Truncate(int64(size) << 20); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			child := exec.Command(os.Args[0], os.Args[1:]...)
			child.Env, child.ExtraFiles = append(os.Environ(), "SHARE_CHILD=1"), []*os.File{file}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = child.Wait() })
		}
	}
	all, err := unix.Mmap(int(file.Fd()), 0, size<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(all); i += 4096 {
		all[i] = 1
	}
	<-time.After(time.Second)
}

// The init was killed from outside, and what got away holds on to the output: the step ends all the same.
func TestAStepDoesNotWaitForWhatGotAway(t *testing.T) {
	t.Parallel()
	p := host(t, executor.None)
	dir := t.TempDir()
	ended := make(chan executor.Result, 1)
	go func() {
		got, _ := p.Run(context.Background(), executor.Step{Dir: dir, Script: "setsid sh -c 'echo $$ >away; exec sleep 600' & while ! test -s away; do :; done; kill -9 $PPID; sleep 600"}, io.Discard)
		ended <- got
	}()
	defer func() {
		text, _ := os.ReadFile(filepath.Join(dir, "away"))
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}()
	select {
	case got := <-ended:
		if got.Cause != executor.CauseKilled {
			t.Errorf("%+v", got)
		}
	case <-time.After(time.Minute):
		t.Error("still waiting for what got away")
	}
}

// slow takes what is written at a moment of its own.
type slow struct{ until <-chan time.Time }

func (s slow) Write(p []byte) (int, error) {
	<-s.until
	return len(p), nil
}

// A step that was done in time is not late because its output is taken slowly.
func TestTimeTheOutputTakesIsNotTheSteps(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p *executor.Process) {
		const limit = 4 * time.Second
		got, err := p.Run(t.Context(), executor.Step{Dir: t.TempDir(), Script: "echo done", Limits: executor.Limits{Time: limit}}, slow{time.After(limit + 100*time.Millisecond)})
		if err != nil || !got.Succeeded() {
			t.Errorf("%+v %v", got, err)
		}
	})
}

func TestProcessorsAreHandedOutInTurn(t *testing.T) {
	t.Parallel()
	if runtime.NumCPU() < 2 {
		t.Skip("SKIPPED: that steps get different processors in turn was NOT shown: this machine has one")
	}
	each(t, func(t *testing.T, p *executor.Process) {
		seen := map[string]bool{}
		for range 2 {
			_, out := run(t, p, executor.Step{Script: "grep Cpus_allowed_list /proc/self/status", Limits: executor.Limits{CPU: 1}})
			seen[out] = true
		}
		if len(seen) != 2 {
			t.Errorf("both ran on %v", seen)
		}
	})
}

// What is hidden is hidden under all of its names, files too.
func TestLinksLeadToNothingHidden(t *testing.T) {
	t.Parallel()
	p := host(t, executor.Required)
	base := t.TempDir()
	at := func(name string) string { return filepath.Join(base, name) }
	if err := os.MkdirAll(at("real/deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"real/deep/key", "real/key"} {
		if err := os.WriteFile(at(name), []byte("hunter2"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"link": at("real"), "relative": "real", "file": at("real/key")} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, hidden := range []string{"real", "link", "relative", "file", "real/key", "link/deep", "real/deep"} {
		for _, seen := range []string{".", "real", "link", "real/deep"} {
			script := "cat " + at("real/key") + " " + at("link/key") + " " + at("file") + " || true"
			if strings.HasSuffix(hidden, "deep") {
				script = "cat " + at("real/deep/key") + " " + at("link/deep/key") + " || true"
			}
			got, out := run(t, p, executor.Step{Script: script, ReadOnly: []string{at(seen)}, Hidden: []string{at(hidden)}})
			if !got.Succeeded() || strings.Contains(out, "hunter2") {
				t.Errorf("hidden %s, seen %s: %+v: %s", hidden, seen, got, out)
			}
		}
	}
	// But for what is shown of it, which it can not change.
	shown := at("real/deep/key")
	for _, seen := range [][]string{nil, {base}} {
		script := "cat " + shown + "; ! cat " + at("real/key") + " && ! echo x >>" + shown + " && ! rm " + shown
		if got, out := run(t, p, executor.Step{Script: script, ReadOnly: seen, Hidden: []string{at("real")}, Shown: []string{shown}}); !got.Succeeded() || strings.Count(out, "hunter2") != 1 {
			t.Errorf("shown, seen %s: %+v: %s", seen, got, out)
		}
	}
	// Its own home and temp are its own, though they are made within what is hidden.
	if got, out := run(t, p, executor.Step{Script: "head -c 3000000 /dev/zero >/tmp/a && cp /tmp/a ~/a", Scratch: base, Hidden: []string{base}}); !got.Succeeded() {
		t.Errorf("%+v: %s", got, out)
	}
	// What lies beside it is still there.
	if got, out := run(t, p, executor.Step{Script: "cat " + at("link/key"), ReadOnly: []string{base}, Hidden: []string{at("link/deep")}}); !got.Succeeded() || out != "hunter2" {
		t.Errorf("%+v: %s", got, out)
	}
}

func TestLayers(t *testing.T) {
	t.Parallel()
	p := executor.NewProcess(executor.Auto)
	if isolated, why, err := p.Isolated(t.Context()); err != nil || !isolated {
		t.Skipf("SKIPPED: layers were NOT tried: %s (%v)", why, err)
	}
	dir := t.TempDir()
	if layered, why, err := p.Layered(t.Context(), dir); err != nil || !layered {
		t.Skipf("SKIPPED: layers were NOT tried: %s (%v)", why, err)
	}
	if layered, why, err := p.Layered(t.Context(), dir, t.TempDir(), "/proc"); err != nil || layered || why == "" {
		t.Errorf("something can be laid over /proc: %v, %q, %v", layered, why, err)
	}
	if layered, why, err := p.Layered(t.Context(), dir, t.TempDir(), t.TempDir()); err != nil || !layered {
		t.Errorf("nothing can be laid over folders beside it: %s, %v", why, err)
	}
	lowest, first, second := filepath.Join(dir, "lowest, with: signs"), filepath.Join(dir, "first"), filepath.Join(dir, "second")
	for _, folder := range []string{lowest, first, second} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"kept": "kept", "changed": "before", "removed": "there"} {
		if err := os.WriteFile(filepath.Join(lowest, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(script string, l executor.Layer) {
		t.Helper()
		var out strings.Builder
		l.Target = "/var/layered"
		if got, err := p.Run(t.Context(), executor.Step{Name: "layers", Dir: t.TempDir(), Script: "cd /var/layered; " + script, Layers: []executor.Layer{l}}, &out); err != nil || !got.Succeeded() {
			t.Fatalf("%+v, %v: %s", got, err, out.String())
		}
	}
	run("echo after >>changed; rm removed; mkdir new; echo new >new/file", executor.Layer{Lower: []string{lowest}, Upper: first})
	for name, want := range map[string]string{"kept": "kept", "changed": "before", "removed": "there"} {
		if text, err := os.ReadFile(filepath.Join(lowest, name)); err != nil || string(text) != want {
			t.Errorf("below, %s is %q now, %v", name, text, err)
		}
	}
	if there, err := os.ReadDir(lowest); err != nil || len(there) != 3 {
		t.Errorf("below there is %v, %v", there, err)
	}
	run(`test "$(cat changed)" = "beforeafter"; test ! -e removed; cat kept new/file; echo more >more`, executor.Layer{Lower: []string{filepath.Join(first, "upper"), lowest}, Upper: second})
	if text, err := os.ReadFile(filepath.Join(second, "upper", "more")); err != nil || string(text) != "more\n" {
		t.Errorf("%q, %v", text, err)
	}
	run("test ! -e kept; cat more; echo own >own", executor.Layer{Upper: second})
	if _, err := os.Stat(filepath.Join(second, "upper", "own")); err != nil {
		t.Error(err)
	}
}

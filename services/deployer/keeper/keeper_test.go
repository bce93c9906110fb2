//go:build linux

package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
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

	"go.uber.org/goleak"

	"github.com/lemnis/lemnis/services/deployer/process"
	"github.com/lemnis/lemnis/services/deployer/proxy"
)

func TestMain(m *testing.M) {
	if code, done := Main(os.Args); done {
		os.Exit(code)
	}
	if os.Getenv("KEEPER_TEST_SERVICE") != "" {
		service()
	}
	os.Exit(m.Run())
}

// service answers with its pid, and, asked for it, with what the front's socket says to it; a gated one listens once a
// file is there.
func service() {
	for os.Getenv("KEEPER_TEST_SERVICE") == "gated" {
		if _, err := os.Stat(os.Getenv("KEEPER_TEST_GATE")); err == nil {
			break
		}
		<-time.After(5 * time.Millisecond)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) })
	http.HandleFunc("/command", func(w http.ResponseWriter, r *http.Request) {
		_, err := attach(r.Context(), r.FormValue("folder"), func(Notice) {})
		fmt.Fprint(w, err)
	})
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func attached(t *testing.T, c Config, command []string) *Client {
	t.Helper()
	k, err := Attach(t.Context(), c, command, func(Notice) {})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// run opens a door with one version of the test's service behind it.
func run(t *testing.T, k *Client) (Door, Process) {
	t.Helper()
	door, err := k.Open(t.Context(), "shop/prod/api", proxy.Config{Environment: "prod", Service: "api"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := k.Start(t.Context(), door.Name, "r1", "sha256:1", process.Spec{Name: "r1", Executable: os.Args[0], Env: []string{"KEEPER_TEST_SERVICE=1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Route(t.Context(), door.Name, proxy.Routes{Stable: proxy.Upstream{Version: "r1", URL: p.URL}}); err != nil {
		t.Fatal(err)
	}
	return door, p
}

func eventually(t *testing.T, what string, test func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(15 * time.Second); !test(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("not in time: " + what)
		}
	}
}

// suspend stops a process, and returns once it is: until one of its threads has taken the signal, the others go on.
func suspend(t *testing.T, pid int) {
	t.Helper()
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	eventually(t, "it is stopped", func() bool { return strings.HasPrefix(stateOf(pid), "T") })
}

func lives(pid int) bool {
	state := stateOf(pid)
	return state != "" && !strings.HasPrefix(state, "Z")
}

// stateOf is what the kernel says of a process, its state first; empty: there is none.
func stateOf(pid int) string {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(stat), ") ")
	return state
}

// A deployer that comes back finds doors, processes, counts and its note as they were; the one before commands nothing any more.
func TestTheFrontOutlivesItsDeployer(t *testing.T) {
	c := Config{Folder: filepath.Join(t.TempDir(), strings.Repeat("a-long-path/", 12)), Grace: time.Second}
	first := attached(t, c, []string{os.Args[0]})
	door, p := run(t, first)
	for range 3 {
		get(t, door.URL)
	}
	if err := first.Remember(t.Context(), door.Name, []byte("note")); err != nil {
		t.Fatal(err)
	}
	if got := get(t, p.URL+"/command?folder="+c.Folder); !strings.Contains(got, ErrGone.Error()) {
		t.Errorf("a service that wants to command the front is told %q", got)
	}
	if info, err := os.Stat(filepath.Join(c.Folder, "front", "socket")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v %v", info, err)
	}

	second := attached(t, c, []string{os.Args[0]})
	<-first.Done()
	if err := first.Stop(t.Context(), door.Name, "r1"); !errors.Is(err, ErrGone) {
		t.Errorf("the deployer before commands still: %v", err)
	}
	first.Leave()
	was, is := first.State(), second.State()
	if is.Life != was.Life || is.PID != was.PID || is.PID == os.Getpid() || len(is.Doors) != 1 || len(is.Processes) != 1 {
		t.Fatalf("%+v became %+v", was, is)
	}
	if d := is.Doors[0]; d.URL != door.URL || string(d.Note) != "note" || d.Routes.Stable.Version != "r1" {
		t.Errorf("the door became %+v", d)
	}
	if is.Processes[0] != p {
		t.Errorf("%+v became %+v", p, is.Processes[0])
	}
	again, err := second.Start(t.Context(), door.Name, "r1", "sha256:1", process.Spec{Name: "r1", Executable: os.Args[0]})
	if err != nil || again != p {
		t.Errorf("what runs was started again: %+v %v", again, err)
	}
	var refused *Refusal
	if _, err = second.Start(t.Context(), door.Name, "r1", "sha256:2", process.Spec{Name: "r1", Executable: os.Args[0]}); !errors.As(err, &refused) {
		t.Errorf("another artifact under the same name: %v", err)
	}
	get(t, door.URL)
	if s, err := second.Snapshot(t.Context(), door.Name); err != nil || s.Versions["r1"].Requests != 4 {
		t.Errorf("4 requests were counted as %d, %v", s.Versions["r1"].Requests, err)
	}
	if err := second.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	eventually(t, "the end of front and service", func() bool { return !lives(is.PID) && !lives(p.PID) })
}

// A front that nobody comes back to ends in order; one whose folder is gone too, so that no test leaves one behind.
func TestAFrontAloneEnds(t *testing.T) {
	for name, alone := range map[string]time.Duration{"nobody came back": time.Millisecond, "its folder is gone": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := Config{Folder: t.TempDir(), Grace: time.Second, Alone: alone}
			k := attached(t, c, []string{os.Args[0]})
			_, p := run(t, k)
			k.Leave()
			if alone == time.Hour {
				if err := os.RemoveAll(filepath.Join(c.Folder, "front")); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "its end", func() bool { return !lives(k.State().PID) && !lives(p.PID) })
		})
	}
}

// With a front that is killed its services end, and the next one begins anew.
func TestAFrontThatIsKilled(t *testing.T) {
	c := Config{Folder: t.TempDir(), Grace: time.Second}
	k := attached(t, c, []string{os.Args[0]})
	_, p := run(t, k)
	_ = syscall.Kill(k.State().PID, syscall.SIGKILL)
	<-k.Done()
	if _, err := k.Process(t.Context(), "shop/prod/api", "r1"); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
	k.Leave()
	next := attached(t, c, []string{os.Args[0]})
	if s := next.State(); s.Life == k.State().Life || len(s.Doors)+len(s.Processes) != 0 {
		t.Errorf("%+v", s)
	}
	eventually(t, "the service's end", func() bool { return !lives(p.PID) })
	if err := next.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// What is no front says so, and where to read why.
// A deployer that is stopped while its front starts within its own process leaves none behind.
func TestAStopDuringTheStart(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for after := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(after)*time.Millisecond)
		if k, err := Attach(ctx, Config{Folder: t.TempDir()}, nil, func(Notice) {}); err == nil {
			if err := k.Close(t.Context()); err != nil {
				t.Errorf("after %d ms: %v", after, err)
			}
		}
		cancel()
	}
}

func TestAFrontThatDoesNotStart(t *testing.T) {
	_, err := Attach(t.Context(), Config{Folder: t.TempDir()}, []string{"/bin/false"}, func(Notice) {})
	if _, missing := exec.LookPath("/bin/false"); missing == nil && (err == nil || !strings.Contains(err.Error(), "front.log")) {
		t.Error(err)
	}
	if code, done := Main([]string{"lemnis", Argument, "x"}); code == 0 || !done {
		t.Error("a front without its arguments runs")
	}
}

// A front that takes connections and does not answer, or does not end, keeps nobody waiting who does not want to wait any more.
func TestAFrontThatHangs(t *testing.T) {
	t.Run("it is stopped", func(t *testing.T) {
		c := Config{Folder: t.TempDir(), Grace: time.Second}
		k := attached(t, c, []string{os.Args[0]})
		k.Leave()
		suspend(t, k.State().PID)
		if err := attachFor(t, c, 200*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		_ = syscall.Kill(k.State().PID, syscall.SIGCONT)
		again := attached(t, c, []string{os.Args[0]})
		if again.State().Life != k.State().Life {
			t.Errorf("%+v is not %+v", again.State(), k.State())
		}
		if err := again.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	t.Run("it is stopped while it is commanded", func(t *testing.T) {
		c := Config{Folder: t.TempDir(), Grace: 100 * time.Millisecond, Patience: 100 * time.Millisecond}
		k := attached(t, c, []string{os.Args[0]})
		ctx, door := t.Context(), Door{Name: "shop/prod/api"}
		asks := map[string]func() error{
			"state":    func() error { _, err := k.Now(ctx); return err },
			"open":     func() error { _, err := k.Open(ctx, door.Name, proxy.Config{}); return err },
			"route":    func() error { return k.Route(ctx, door.Name, proxy.Routes{}) },
			"fault":    func() error { return k.Fault(ctx, door.Name, proxy.Fault{}) },
			"snapshot": func() error { _, err := k.Snapshot(ctx, door.Name); return err },
			"remember": func() error { return k.Remember(ctx, door.Name, nil) },
			"process":  func() error { _, err := k.Process(ctx, door.Name, "r1"); return err },
			"shut":     func() error { return k.Shut(ctx, door.Name) },
			"stop":     func() error { return k.Stop(ctx, door.Name, "r1") },
			"start": func() error {
				_, err := k.Start(ctx, door.Name, "r1", "sha256:1", process.Spec{StartTimeout: 100 * time.Millisecond})
				return err
			},
		}
		suspend(t, k.State().PID)
		type failure struct {
			what string
			err  error
		}
		failed := make(chan failure, len(asks))
		for what, ask := range asks {
			go func() { failed <- failure{what, ask()} }()
		}
		late := time.After(10 * time.Second)
		for range asks {
			select {
			case f := <-failed:
				if !errors.Is(f.err, ErrHangs) || errors.Is(f.err, ErrGone) || !strings.Contains(f.err.Error(), "no answer to "+f.what+" within ") {
					t.Errorf("%s: %v", f.what, f.err)
				}
			case <-late:
				t.Fatal("who asks hangs with it")
			}
		}
		_ = syscall.Kill(k.State().PID, syscall.SIGCONT)
		eventually(t, "answers again", func() bool { s, err := k.Now(ctx); return err == nil && s.Life == k.State().Life })
		if err := k.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	t.Run("it is another version's and does not end", func(t *testing.T) {
		c := Config{Folder: t.TempDir()}
		if err := os.Mkdir(filepath.Join(c.Folder, "front"), 0o700); err != nil {
			t.Fatal(err)
		}
		folder, err := os.Open(filepath.Join(c.Folder, "front"))
		if err != nil {
			t.Fatal(err)
		}
		defer folder.Close()
		listener, err := net.Listen("unix", socketIn(folder.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		mux := http.NewServeMux()
		mux.HandleFunc("/attach", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"protocol":%d}`, Protocol+1) })
		mux.HandleFunc("/close", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not now", http.StatusServiceUnavailable) })
		server := &http.Server{Handler: mux}
		go func() { _ = server.Serve(listener) }()
		defer server.Close()
		if err := attachFor(t, c, 200*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not now") {
			t.Error(err)
		}
	})
}

// attachFor is the error of an Attach whose context ends.
func attachFor(t *testing.T, c Config, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	got := make(chan error, 1)
	go func() {
		_, err := Attach(ctx, c, []string{os.Args[0]}, func(Notice) {})
		got <- err
	}()
	select {
	case err := <-got:
		return err
	case <-time.After(15 * time.Second):
		t.Fatal("it does not return")
		return nil
	}
}

// A version that is being started when the front is ended in order is not to blame.
func TestTheFrontEndsDuringAStart(t *testing.T) {
	c := Config{Folder: t.TempDir(), Grace: time.Second}
	k := attached(t, c, []string{os.Args[0]})
	got := make(chan error, 1)
	go func() {
		_, err := k.Start(t.Context(), "shop/prod/api", "r1", "sha256:1", process.Spec{Name: "r1", Executable: os.Args[0], Env: []string{"KEEPER_TEST_SERVICE=gated"}})
		got <- err
	}()
	eventually(t, "the process", func() bool {
		records, _ := filepath.Glob(filepath.Join(c.Folder, "processes", "*.json"))
		return len(records) == 1
	})
	_ = syscall.Kill(k.State().PID, syscall.SIGTERM)
	var refused *Refusal
	if err := <-got; !errors.Is(err, ErrGone) || errors.As(err, &refused) {
		t.Errorf("%T %v", err, err)
	}
	<-k.Done()
	k.Leave()
}

// A version that is asked for several times at once runs once.
func TestOneStartAtATime(t *testing.T) {
	c := Config{Folder: t.TempDir(), Grace: time.Second}
	k := attached(t, c, []string{os.Args[0]})
	var all [4]Process
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			var err error
			if all[i], err = k.Start(t.Context(), "shop/prod/api", "r1", "sha256:1", process.Spec{Name: "r1", Executable: os.Args[0], Env: []string{"KEEPER_TEST_SERVICE=1"}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, p := range all {
		if p != all[0] || p.PID == 0 {
			t.Errorf("one start gave %+v, another %+v", all[0], p)
		}
	}
	if records, _ := filepath.Glob(filepath.Join(c.Folder, "processes", "*.json")); len(records) != 1 {
		t.Errorf("what runs: %v", records)
	}
	if err := k.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// What a deployer began to start is nobody's once the next one has read what runs; that one may start the same.
func TestAnotherDeployerAttachesDuringAStart(t *testing.T) {
	c := Config{Folder: t.TempDir(), Grace: time.Second}
	first := attached(t, c, []string{os.Args[0]})
	gate := filepath.Join(c.Folder, "gate")
	spec := process.Spec{Name: "r1", Executable: os.Args[0], Env: []string{"KEEPER_TEST_SERVICE=gated", "KEEPER_TEST_GATE=" + gate}}
	got := make(chan error, 1)
	go func() {
		_, err := first.Start(t.Context(), "shop/prod/api", "r1", "sha256:1", spec)
		got <- err
	}()
	records := func() []string { all, _ := filepath.Glob(filepath.Join(c.Folder, "processes", "*.json")); return all }
	eventually(t, "the process", func() bool { return len(records()) == 1 })
	begun := records()
	second := attached(t, c, []string{os.Args[0]})
	if s := second.State(); len(s.Processes) != 0 {
		t.Errorf("%+v", s)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var refused *Refusal
	if err := <-got; !errors.Is(err, ErrGone) || errors.As(err, &refused) {
		t.Errorf("the first deployer is told %v", err)
	}
	first.Leave()
	if _, err := second.Process(t.Context(), "shop/prod/api", "r1"); !errors.As(err, &refused) {
		t.Errorf("the second one finds what it did not start: %v", err)
	}
	if _, err := second.Start(t.Context(), "shop/prod/api", "r1", "sha256:2", spec); err != nil {
		t.Error(err)
	}
	if now := records(); len(now) != 1 || now[0] == begun[0] {
		t.Errorf("what runs: %v, and was begun: %v", now, begun)
	}
	if err := second.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

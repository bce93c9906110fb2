//go:build linux

package process

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var app string

func TestMain(m *testing.M) {
	if folder := os.Getenv("TEST_SUPERVISE"); folder != "" {
		superviseUntilKilled(folder)
	}
	folder, err := os.MkdirTemp("", "process")
	if err != nil {
		panic(err)
	}
	app = filepath.Join(folder, "app")
	if out, err := exec.Command("go", "build", "-o", app, "./testdata/app").CombinedOutput(); err != nil {
		panic(string(out))
	}
	code := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

func supervisor(t *testing.T) (*Supervisor, chan Notice) {
	t.Helper()
	notices := make(chan Notice, 100)
	s, err := New(Config{StateDir: t.TempDir(), Grace: 300 * time.Millisecond, MinPause: 10 * time.Millisecond,
		Notify: func(n Notice) { notices <- n }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s, notices
}

func start(t *testing.T, s *Supervisor, args ...string) *Process {
	t.Helper()
	p, err := s.Start(context.Background(), Spec{Name: "app", Executable: app, Args: args, HealthPath: "/health", StartTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func expect(t *testing.T, notices <-chan Notice, kind NoticeKind) Notice {
	t.Helper()
	select {
	case n := <-notices:
		if n.Kind != kind {
			t.Fatalf("%+v, expected %s", n, kind)
		}
		return n
	case <-time.After(10 * time.Second):
		t.Fatalf("no notice %s", kind)
		return Notice{}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestEnvironmentIsCleanAndPrivate(t *testing.T) {
	t.Setenv("SECRET_OF_THE_SUPERVISOR", "x")
	s, _ := supervisor(t)
	p, err := s.Start(context.Background(), Spec{Executable: app, HealthPath: "/health", Env: []string{"GREETING=hello", "PORT=1"}})
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Get(p.URL() + "/env")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	got := map[string]string{}
	for line := range strings.Lines(string(body)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		got[k] = v
	}
	if got["PORT"] != fmt.Sprint(p.Port()) || got["GREETING"] != "hello" || len(got) != 6 {
		t.Errorf("%v", got)
	}
	if !strings.HasPrefix(got["HOME"], s.config.StateDir) || !strings.HasPrefix(got["TMPDIR"], got["HOME"]) {
		t.Errorf("%v", got)
	}
	p.Stop(context.Background())
	if left, _ := filepath.Glob(filepath.Join(s.config.StateDir, "*")); len(left) != 1 { // the lock
		t.Errorf("left behind: %v", left)
	}
}

func TestStopEndsTheWholeFamily(t *testing.T) {
	for _, args := range [][]string{nil, {"-stubborn"}, {"-child"}, {"-escape"}} {
		s, notices := supervisor(t)
		p := start(t, s, args...)
		expect(t, notices, Started)
		group := p.PID()
		p.Stop(context.Background())
		if left := append(inGroup(group), carrying(p.token)...); len(left) > 0 {
			t.Errorf("%v: left running: %v", args, left)
		}
		expect(t, notices, Stopped)
	}
}

func TestADeadProcessIsStartedAgainOnItsPort(t *testing.T) {
	s, notices := supervisor(t)
	p := start(t, s, "-child")
	port, pid := p.Port(), expect(t, notices, Started).PID
	if _, err := http.Get(p.URL() + "/die"); err == nil {
		t.Error("it did not die")
	}
	if n := expect(t, notices, Exited); n.PID != pid || n.Reason != "exit status 7" || n.Again == 0 {
		t.Errorf("%+v", n)
	}
	if n := expect(t, notices, Restarted); n.PID == pid || n.Port != port || len(inGroup(pid)) > 0 {
		t.Errorf("%+v, of the first group %v", n, inGroup(pid))
	}
	if response, err := http.Get(p.URL() + "/health"); err != nil || response.StatusCode != 200 {
		t.Errorf("%v %v", response, err)
	}
}

func TestFailedStartsLeaveNothing(t *testing.T) {
	s, _ := supervisor(t)
	log := filepath.Join(t.TempDir(), "log")
	for _, test := range []struct {
		spec   Spec
		reason string
	}{
		{Spec{Executable: app, Args: []string{"-fail"}}, "no configuration"},
		{Spec{Executable: app, Args: []string{"-sick"}, HealthPath: "/health", StartTimeout: 300 * time.Millisecond}, "500"},
		{Spec{Executable: "/bin/sleep", Args: []string{"60"}, StartTimeout: 100 * time.Millisecond}, "does not listen"},
		{Spec{Executable: filepath.Join(t.TempDir(), "none")}, "no such file"},
	} {
		test.spec.LogFile = log
		if _, err := s.Start(context.Background(), test.spec); err == nil || !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%v, expected %q", err, test.reason)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Start(ctx, Spec{Executable: "/bin/sleep", Args: []string{"60"}}); err == nil {
		t.Error("a cancelled start succeeded")
	}
	if left, _ := filepath.Glob(filepath.Join(s.config.StateDir, "*.json")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAPortIsHeldForItsProcess(t *testing.T) {
	r, err := reserve()
	if err != nil {
		t.Fatal(err)
	}
	defer r.release()
	for range 2000 { // nobody else is given it as a free port
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if l.Addr().(*net.TCPAddr).Port == r.port {
			t.Fatal("the reserved port was handed out")
		}
		l.Close()
	}
	s, _ := supervisor(t)
	if p := start(t, s, "-exclusive"); !p.unheld {
		t.Error("a program without SO_REUSEADDR listened on a held port")
	}
}

func TestListening(t *testing.T) {
	s, _ := supervisor(t)
	p := start(t, s, "-second")
	sockets, err := Listening(p.PID())
	if err != nil || len(sockets) != 2 {
		t.Fatalf("%+v %v", sockets, err)
	}
	for _, socket := range sockets {
		if socket.Loopback != (socket.Port == p.Port()) {
			t.Errorf("%+v", socket)
		}
	}
	for address, want := range map[string]bool{"0100007F": true, "00000000": false, "0201A8C0": false,
		"00000000000000000000000001000000": true, "00000000000000000000000000000000": false, "0000000000000000FFFF00000100007F": true} {
		if isLoopback(address) != want {
			t.Errorf("%s", address)
		}
	}
}

// superviseUntilKilled is the body of a supervisor that the test kills.
func superviseUntilKilled(folder string) {
	s, err := New(Config{StateDir: folder})
	if err != nil {
		panic(err)
	}
	if os.Getenv("TEST_NO_DEATH_SIGNAL") != "" {
		s.deathSignal = 0
	}
	p, err := s.Start(context.Background(), Spec{Name: "app", Executable: os.Getenv("TEST_APP"), Args: []string{"-child", "-stubborn"}, HealthPath: "/health"})
	if err != nil {
		panic(err)
	}
	fmt.Println(p.PID())
	select {}
}

func TestANewSupervisorEndsWhatAKilledOneLeft(t *testing.T) {
	for _, without := range []string{"", "1"} {
		folder := t.TempDir()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "TEST_SUPERVISE="+folder, "TEST_APP="+app, "TEST_NO_DEATH_SIGNAL="+without)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var group int
		if _, err := fmt.Fscan(bufio.NewReader(out), &group); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Config{StateDir: folder}); err == nil {
			t.Error("two supervisors share a folder")
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		want := 1 // the child, which no death signal reaches
		if without != "" {
			want = 2
		}
		eventually(t, "the death signal", func() bool { return len(inGroup(group)) == want })
		s, err := New(Config{StateDir: folder})
		if err != nil {
			t.Fatal(err)
		}
		if left := s.Leftovers(); len(left) != 1 || len(left[0].PIDs) != want || left[0].Name != "app" {
			t.Errorf("ended %+v, expected %d", left, want)
		}
		eventually(t, "the end", func() bool { return len(inGroup(group)) == 0 })
		_ = s.Close(context.Background())
	}
}

func TestAStrangerIsNeverKilled(t *testing.T) {
	stranger := exec.Command("/bin/sleep", "60")
	stranger.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Process.Kill(); _ = stranger.Wait() }()
	now, err := readStat(stranger.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	executable, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", now.pid))
	same := record{PID: now.pid, Started: now.started, Boot: bootID(), Executable: executable}
	if !same.isRunning() {
		t.Fatal("the right record does not match")
	}
	for i, change := range []func(*record){
		func(r *record) { r.Started-- }, func(r *record) { r.Boot = "another" },
		func(r *record) { r.Executable = "/bin/other" }, func(r *record) { r.PID = 0 },
	} {
		folder, r := t.TempDir(), same
		change(&r)
		r.Token = fmt.Sprint("token", i)
		if err := (&Supervisor{config: Config{StateDir: folder}}).save(r); err != nil {
			t.Fatal(err)
		}
		s, err := New(Config{StateDir: folder})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readStat(now.pid); err != nil || got.state == 'Z' || len(s.Leftovers()) > 0 {
			t.Fatalf("a stranger was killed by %+v", r)
		}
		_ = s.Close(context.Background())
	}
}

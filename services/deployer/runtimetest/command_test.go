//go:build linux

package runtimetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/executor"
)

func TestCommandsOfTheProject(t *testing.T) {
	t.Setenv("LEMNIS_SECRET", "hunter2")
	write := func(file, text string) string { return "cat > " + file + " <<'END'\n" + text + "\nEND\n" }
	const passes = `<testsuites><testsuite tests="2"><testcase classname="a" name="b"/><testcase name="c"><skipped/></testcase></testsuite></testsuites>`
	const fails = `<testsuite failures="1"><testcase classname="a" name="b"><failure message="want 3, got 4">at line 7</failure></testcase><testcase name="c"/></testsuite>`
	host := Host{Process: executor.NewProcess(executor.Auto)}
	elsewhere := t.TempDir()
	if err := os.WriteFile(filepath.Join(elsewhere, "r.xml"), []byte(passes), 0o600); err != nil {
		t.Fatal(err)
	}
	finding := func(result string) string {
		return `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"scan","rules":[{"id":"R1","defaultConfiguration":{"level":"note"}},{"id":"R2","defaultConfiguration":{"level":"error"}}]}},"results":[` + result + `]}]}`
	}
	for _, test := range []struct {
		name    string
		command Command
		reason  string
		passed  bool
	}{
		{"passes", Command{Run: write("r.xml", passes), JUnit: "r.xml"}, "1 tests passed, 1 skipped", true},
		{"a case failed", Command{Run: write("r.xml", fails) + "exit 1", JUnit: "r.xml"}, "1 of 2 tests failed: a.b: want 3, got 4", false},
		{"a case failed, and it ended well", Command{Run: write("r.xml", fails), JUnit: "r.xml"}, "1 of 2 tests failed", false},
		{"ended badly", Command{Run: write("r.xml", passes) + "echo no disk >&2; exit 3", JUnit: "r.xml"}, "but it ended with exit status 3: no disk", false},
		{"goes on after what failed", Command{Run: "false; " + write("r.xml", passes), JUnit: "r.xml"}, "1 tests passed", true},
		{"ended by a signal", Command{Run: write("r.xml", passes) + "kill -9 $$", JUnit: "r.xml"}, "but it ended with signal 9 (killed)", false},
		{"prints without an end", Command{Run: write("r.xml", passes) + "yes", JUnit: "r.xml"}, "it was ended: printed more than 67108864 bytes: y", false},
		{"no report", Command{Run: "echo what; true", JUnit: "r.xml"}, "it wrote no report r.xml", false},
		{"no such program", Command{Run: "no-such-scanner", SARIF: "r.sarif"}, "no-such-scanner: not found", false},
		{"none ran", Command{Run: write("r.xml", `<testsuite><testcase name="c"><skipped/></testcase></testsuite>`), JUnit: "r.xml"}, "no test ran", false},
		{"a suite that could not begin", Command{Run: write("r.xml", `<testsuite errors="1"><testcase name="c"/></testsuite>`), JUnit: "r.xml"}, "a suite says that 1 failed, and no case does", false},
		{"cut short", Command{Run: write("r.xml", fails[:60]), JUnit: "r.xml"}, "unexpected EOF", false},
		{"another XML", Command{Run: write("r.xml", "<html/>"), JUnit: "r.xml"}, "not <html>", false},
		{"a pipe", Command{Run: "mkfifo r.xml", JUnit: "r.xml"}, "is no file", false},
		{"nothing found", Command{Run: write("r.json", finding("")), SARIF: "r.json"}, "0 errors", true},
		{"a warning", Command{Run: write("r.json", finding(`{"ruleId":"X","message":{"text":"open door"}}`)), SARIF: "r.json"}, "1 found: X (warning): open door", false},
		{"a warning that may be", Command{Run: write("r.json", finding(`{"ruleId":"X"}`)), SARIF: "r.json", Level: "error"}, "0 errors, 1 warnings", true},
		{"as grave as its rule", Command{Run: write("r.json", finding(`{"ruleIndex":1},{"ruleId":"R1"}`)), SARIF: "r.json", Level: "error"}, "1 found: R2 (error)", false},
		{"what passed", Command{Run: write("r.json", finding(`{"ruleId":"X","kind":"pass"},{"ruleId":"R2","suppressions":[{"kind":"inSource"}]}`)), SARIF: "r.json"}, "0 errors", true},
		{"a suppression that was refused", Command{Run: write("r.json", finding(`{"ruleId":"R2","suppressions":[{"kind":"external","status":"rejected"}]}`)), SARIF: "r.json"}, "1 found: R2", false},
		{"a scan that broke off", Command{Run: write("r.json", `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"scan"}},"invocations":[{"executionSuccessful":false}],"results":[]}]}`), SARIF: "r.json"}, "scan did not come to its end", false},
		{"an extension's rule", Command{Run: write("r.json", `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"scan"},"extensions":[{"name":"e"},{"name":"f","rules":[{"id":"Q","defaultConfiguration":{"level":"error"}}]}]},"results":[{"ruleId":"Q","rule":{"id":"Q","index":0,"toolComponent":{"index":1}}}]}]}`), SARIF: "r.json", Level: "error"}, "1 found: Q (error)", false},
		{"what was there once", Command{Run: write("r.json", finding(`{"ruleId":"R2","baselineState":"absent"}`)), SARIF: "r.json"}, "0 errors", true},
		{"an index that is none", Command{Run: write("r.json", finding(`{"ruleId":"R2","ruleIndex":-1}`)), SARIF: "r.json", Level: "error"}, "1 found: R2", false},
		{"a rule's index that is none", Command{Run: write("r.json", finding(`{"rule":{"id":"R2","index":-1}}`)), SARIF: "r.json", Level: "error"}, "1 found: R2", false},
		{"an index beyond all", Command{Run: write("r.json", finding(`{"ruleId":"R2","ruleIndex":7}`)), SARIF: "r.json", Level: "error"}, "1 found: R2", false},
		{"an index of another rule", Command{Run: write("r.json", finding(`{"ruleId":"R2","ruleIndex":0}`)), SARIF: "r.json", Level: "error"}, "1 found: R2", false},
		{"an id with an end of its own", Command{Run: write("r.json", finding(`{"ruleId":"R2/1"}`)), SARIF: "r.json", Level: "error"}, "1 found: R2", false},
		{"an index and an id with an end of its own", Command{Run: write("r.json", finding(`{"ruleId":"R2/1/a","ruleIndex":1}`)), SARIF: "r.json", Level: "error"}, "1 found: R2", false},
		{"a rule that only an extension has", Command{Run: write("r.json", `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"scan"},"extensions":[{"name":"e","rules":[{"id":"E","defaultConfiguration":{"level":"error"}}]}]},"results":[{"ruleId":"E/2","rule":{"id":"E/2","toolComponent":{"index":-1}}}]}]}`), SARIF: "r.json", Level: "error"}, "1 found: E/2 (error)", false},
		{"behind a byte order mark", Command{Run: "printf '\\357\\273\\277' > r.json; " + strings.Replace(write("r.json", finding("")), ">", ">>", 1), SARIF: "r.json"}, "0 errors", true},
		{"a scan that did not look", Command{Run: write("r.json", `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"scan"}},"results":null}]}`), SARIF: "r.json"}, "no results of scan", false},
		{"a report elsewhere", Command{Run: "ln -s " + elsewhere + " out", JUnit: "out/r.xml"}, "its report: ", false},
		{"no SARIF", Command{Run: write("r.json", `{"results":[]}`), SARIF: "r.json"}, "no SARIF 2", false},
		{"too slow", Command{Run: "echo begun; sleep 60", JUnit: "r.xml", Timeout: 300 * time.Millisecond}, "longer than 300ms: begun", false},
		{"what it is told", Command{Run: `[ "$URL $PORT $DIGEST$LEMNIS_SECRET" = "http://127.0.0.1:7 7 sha256:1" ] && ` + write("r.xml", passes), JUnit: "r.xml"}, "1 tests passed", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.command.Name, test.command.Kind = "own", Security
			start := time.Now()
			all := Run(t.Context(), Instance{URL: "http://127.0.0.1:7", Port: 7, Digest: "sha256:1"}, Suite{Commands: []Command{test.command}, Host: host})
			if len(all) != 1 || all[0].Name != "commands.own" || all[0].Kind != Security || all[0].Passed != test.passed || !strings.Contains(all[0].Reason, test.reason) {
				t.Errorf("%+v", all)
			}
			if time.Since(start) > 20*time.Second {
				t.Errorf("it took %s", time.Since(start))
			}
		})
	}
}

// each runs a test on hosts with namespaces and without. A machine that has none can not show what they keep apart.
func each(t *testing.T, test func(t *testing.T, host *executor.Process)) {
	t.Helper()
	for _, isolation := range []executor.Isolation{executor.Required, executor.None} {
		t.Run(string(isolation), func(t *testing.T) {
			host := executor.NewProcess(isolation)
			if isolated, why, err := host.Isolated(t.Context()); err != nil || !isolated && isolation == executor.Required {
				t.Skipf("SKIPPED: commands were NOT run %s: %s (%v)", isolation, why, err)
			}
			test(t, host)
		})
	}
}

// own runs one command as a test of its own.
func own(t *testing.T, host Host, instance Instance, run string) Result {
	t.Helper()
	all := Run(t.Context(), instance, Suite{Commands: []Command{{Name: "own", Kind: Quality, Run: run, JUnit: "r.xml", Timeout: time.Minute}}, Host: host})
	if len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	return all[0]
}

const passing = `echo '<testsuite><testcase name="a"/></testsuite>' > r.xml`

// TestACommandLeavesNothing: neither what it started in the background, in a session of its own, nor its folder. It reaches the instance.
func TestACommandLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, host *executor.Process) {
		t.Setenv("TMPDIR", t.TempDir())
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
		ended := make(chan error, 1)
		go func() {
			one, err := listener.Accept()
			if err == nil {
				_, err = one.Write([]byte("welcome\n"))
			}
			if err == nil {
				_ = one.SetReadDeadline(time.Now().Add(time.Minute))
				_, err = one.Read(make([]byte, 1)) // until nobody has it
			}
			ended <- err
		}()
		port := listener.Addr().(*net.TCPAddr).Port
		got := own(t, Host{Process: host}, Instance{URL: fmt.Sprintf("http://127.0.0.1:%d", port), Port: port},
			`setsid bash -c 'trap "" TERM HUP; exec 3<>/dev/tcp/127.0.0.1/$PORT; read word <&3; echo $word >said; exec sleep 600' &
			while ! test -s said; do sleep 0.05; done; mkdir -p fixed/modules; chmod 500 fixed; `+passing)
		if !got.Passed {
			t.Fatalf("%+v", got)
		}
		if err := <-ended; !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("what it started outlived it: %v", err)
		}
		if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
			t.Errorf("%v %v", left, err)
		}
	})
}

// What its host has for itself a command does not see, even where it lies in what it sees of the machine: but the executable that is
// tested, which it can not change.
func TestACommandSeesNothingOfItsHost(t *testing.T) {
	process := executor.NewProcess(executor.Required)
	if isolated, why, err := process.Isolated(t.Context()); err != nil || !isolated {
		t.Skipf("SKIPPED: that a command sees nothing of its host was NOT shown: %s (%v)", why, err)
	}
	seen := t.TempDir()
	t.Setenv("PATH", os.Getenv("PATH")+":"+seen)
	file := func(name string) string {
		at := filepath.Join(seen, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte("#!/bin/sh\necho hunter2\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return at
	}
	key, secret, program, other := file("nats.key"), file("data/secrets/one"), file("data/executables/1/api"), file("data/executables/2/api")
	file("tool")
	if err := os.Symlink("data", filepath.Join(seen, "link")); err != nil {
		t.Fatal(err)
	}
	linked := func(path string) string { return strings.Replace(path, "/data/", "/link/", 1) }
	host := Host{Process: process, Hidden: []string{key, filepath.Join(seen, "data")}}
	for _, by := range []string{program, linked(program)} {
		got := own(t, host, Instance{Executable: by}, `test "$(tool)" = hunter2 && test "$($ARTIFACT)" = hunter2 && ! echo x >>$ARTIFACT && ! chmod 777 $ARTIFACT && ! rm -f $ARTIFACT && `+passing)
		if !got.Passed || got.Unisolated != "" {
			t.Errorf("what it is to see, by %s: %+v", by, got)
		}
	}
	for _, path := range []string{key, secret, other, linked(secret), fmt.Sprintf("/proc/%d/environ", os.Getpid())} {
		got := own(t, host, Instance{Executable: program}, "grep -q hunter2 "+path+" || exit 7; "+passing)
		if got.Passed || !strings.Contains(got.Reason, "exit status 7") {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

// TestIsolationOfCommands: where the kernel grants no namespaces, a command is not run when they are required, and else it is said.
func TestIsolationOfCommands(t *testing.T) {
	if os.Getenv("WITHOUT_NAMESPACES") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), "WITHOUT_NAMESPACES=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		}
		switch out, err := cmd.CombinedOutput(); {
		case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOSPC), bytes.Contains(out, []byte("--- SKIP")):
			t.Skipf("SKIPPED: what is said of a command without namespaces was NOT shown: no user namespace is to be had that grants none (%v): %s", err, out)
		case err != nil || !bytes.Contains(out, []byte("--- PASS")):
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		t.Skip("SKIPPED: what is said of a command without namespaces was NOT shown: they can not be denied here: ", err)
	}
	ran := filepath.Join(t.TempDir(), "ran")
	for _, test := range []struct {
		isolation executor.Isolation
		passed    bool
		reason    string
		why       string
	}{
		{executor.Required, false, "isolation is required, and this kernel or container grants no namespaces", ""},
		{executor.Auto, true, "1 tests passed", "grants no namespaces"},
		{executor.None, true, "1 tests passed", "isolation is switched off"},
	} {
		got := own(t, Host{Process: executor.NewProcess(test.isolation)}, Instance{}, "touch "+ran+"; "+passing)
		_, err := os.Stat(ran)
		if got.Passed != test.passed || (err == nil) != test.passed || !strings.Contains(got.Reason, test.reason) ||
			!strings.Contains(got.Unisolated, test.why) || (got.Unisolated == "") != (test.why == "") {
			t.Errorf("%s: %+v, %v", test.isolation, got, err)
		}
		_ = os.Remove(ran)
	}
}

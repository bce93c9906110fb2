package pipeline_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lemnis/lemnis/services/builder/pipeline"
)

// project writes a module of the given files; go.mod is added unless it is among them as "".
func project(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if _, given := files["go.mod"]; !given {
		files["go.mod"] = "module example.org/tiny\n\ngo 1.24\n"
	}
	for name, content := range files {
		if content == "" {
			continue
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	mainGo = "package main\n\nfunc main() { println(double(21)) }\n\nfunc double(n int) int {\n\tif n < 0 {\n\t\treturn 0\n\t}\n\treturn 2 * n\n}\n"
	testGo = "package main\n\nimport \"testing\"\n\nfunc TestDouble(t *testing.T) {\n\tfor _, n := range []string{\"a\", \"b\"} {\n\t\tt.Run(n, func(t *testing.T) {\n\t\t\tif double(2) != 4 {\n\t\t\t\tt.Fatal(\"no\")\n\t\t\t}\n\t\t})\n\t}\n}\n\nfunc TestLater(t *testing.T) { t.Skip(\"later\") }\n"
)

func run(t *testing.T, spec pipeline.Spec) pipeline.Report {
	t.Helper()
	if spec.Output == "" {
		spec.Output = t.TempDir()
	}
	report, err := pipeline.Run(t.Context(), spec)
	if err != nil {
		t.Fatalf("%v\n%s", err, report.LogTail)
	}
	return report
}

func fileDigest(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func TestRunPackagesOneStaticExecutable(t *testing.T) {
	files := map[string]string{"main.go": mainGo, "main_test.go": testGo}
	r := run(t, pipeline.Spec{Dir: project(t, files)})
	if !r.Succeeded() || len(r.Steps) != 4 {
		t.Fatalf("steps %+v\n%s", r.Steps, r.LogTail)
	}
	if r.Module != "example.org/tiny" || r.Main != "example.org/tiny" {
		t.Errorf("module %q, main %q", r.Module, r.Main)
	}
	if r.Count(pipeline.Passed) != 3 || r.Count(pipeline.Skipped) != 1 || r.Tests[1].Name != "TestDouble/a" {
		t.Errorf("tests %+v", r.Tests)
	}
	// main, its println, double's condition and two returns: all but main and the guard ran.
	if r.Statements != 4 || r.Coverage != 50 {
		t.Errorf("coverage %.1f of %d", r.Coverage, r.Statements)
	}
	if got := fileDigest(t, r.Executable); got != r.Digest {
		t.Errorf("digest %s, file %s", r.Digest, got)
	}
	if got := fileDigest(t, r.LogFile); got != r.LogDigest || !strings.Contains(r.LogTail, "--- PASS: TestDouble") {
		t.Errorf("log digest %s, file %s, tail:\n%s", r.LogDigest, got, r.LogTail)
	}
	binary, err := elf.Open(r.Executable)
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	if libs, err := binary.ImportedLibraries(); len(libs) > 0 {
		t.Errorf("not static: %v %v", libs, err)
	}
	if out, err := exec.Command(r.Executable).CombinedOutput(); err != nil || string(out) != "42\n" {
		t.Errorf("ran: %q %v", out, err)
	}
	// Elsewhere, the same source gives the same bytes.
	again := run(t, pipeline.Spec{Dir: project(t, files)})
	if again.Digest != r.Digest || again.Executable == r.Executable {
		t.Errorf("second build %s, first %s", again.Digest, r.Digest)
	}
}

func TestResultsAboutTheProject(t *testing.T) {
	tests := []struct {
		name   string
		files  map[string]string
		main   string
		step   string
		cause  pipeline.Cause
		reason string
	}{
		{"no module", map[string]string{"go.mod": "", "a.py": "x"}, "", "detect", pipeline.CauseNoModule, "no go.mod"},
		{"bad module", map[string]string{"go.mod": "modul x\n", "main.go": mainGo}, "", "detect", pipeline.CauseBadModule, "cannot read the module"},
		{"wrong main", map[string]string{"main.go": mainGo}, "./cmd/x", "detect", pipeline.CauseNoMain, "./cmd/x"},
		{"many mains", map[string]string{"a/a.go": mainGo, "b/b.go": mainGo}, "", "detect", pipeline.CauseManyMains, "example.org/tiny/a, example.org/tiny/b"},
		{"library", map[string]string{"a.go": "package tiny\n"}, "", "package", pipeline.CauseNoMain, "nothing to package"},
		{"compile", map[string]string{"main.go": "package main\n\nfunc main() { missing() }\n"}, "", "compile", pipeline.CauseCompile, "undefined: missing"},
		{"test fails", map[string]string{"main.go": mainGo, "main_test.go": strings.Replace(testGo, "!= 4", "!= 5", 1)}, "", "test", pipeline.CauseTests, "2 failed: TestDouble/a, TestDouble/b"},
		{"test panics", map[string]string{"main.go": mainGo, "main_test.go": "package main\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestDies(t *testing.T) { os.Exit(3) }\n"}, "", "test", pipeline.CauseTests, "TestDies"},
		{"test does not build", map[string]string{"main.go": mainGo, "main_test.go": "package main\n\nvar x = missing\n"}, "", "test", pipeline.CauseTests, "package example.org/tiny"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := run(t, pipeline.Spec{Dir: project(t, test.files), Main: test.main})
			last := r.Last()
			if last.Name != test.step || last.Outcome != pipeline.Failure || last.Cause != test.cause || !strings.Contains(last.Reason, test.reason) {
				t.Fatalf("%+v\n%s", last, r.LogTail)
			}
			if r.Succeeded() || r.Executable != "" {
				t.Error("packaged all the same")
			}
		})
	}
}

func TestChosenMain(t *testing.T) {
	r := run(t, pipeline.Spec{Main: "./a", Dir: project(t, map[string]string{
		"a/a.go": mainGo, "b/b.go": mainGo,
	})})
	if !r.Succeeded() || r.Main != "example.org/tiny/a" || filepath.Base(r.Executable) != "a" {
		t.Fatalf("%+v", r)
	}
}

// hang is a test that starts a process, says so in the file named started, and waits for ever.
func hang(started string) map[string]string {
	return map[string]string{"main.go": mainGo, "main_test.go": fmt.Sprintf(`package main

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

func TestHang(t *testing.T) {
	child := exec.Command("sleep", "600")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(%[1]q+".tmp", fmt.Append(nil, child.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(%[1]q+".tmp", %[1]q); err != nil {
		t.Fatal(err)
	}
	select {}
}
`, started)}
}

// childOf waits for the process that hang started.
func childOf(t *testing.T, started string) int {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		if b, err := os.ReadFile(started); err == nil {
			var pid int
			_, _ = fmt.Sscan(string(b), &pid)
			return pid
		}
	}
	t.Fatal("the test did not start")
	return 0
}

func gone(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || bytes.Contains(state, []byte(") Z ")) {
			return
		}
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	t.Fatalf("process %d is still there", pid)
}

func TestCancelKillsTheWholeGroup(t *testing.T) {
	t.Parallel()
	started := filepath.Join(t.TempDir(), "started")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pid := make(chan int, 1)
	go func() {
		pid <- childOf(t, started)
		cancel()
	}()
	r, err := pipeline.Run(ctx, pipeline.Spec{Dir: project(t, hang(started)), Output: t.TempDir()})
	if !errors.Is(err, context.Canceled) || r.Last().Cause != pipeline.CauseCancelled || r.Last().Outcome != pipeline.Error {
		t.Fatalf("%v, %+v", err, r.Last())
	}
	gone(t, <-pid)
}

func TestTimeLimit(t *testing.T) {
	t.Parallel()
	r := run(t, pipeline.Spec{Dir: project(t, hang(filepath.Join(t.TempDir(), "started"))), TimeLimit: time.Second})
	if last := r.Last(); last.Outcome != pipeline.Failure || last.Cause != pipeline.CauseTimeLimit {
		t.Fatalf("%+v", last)
	}
}

func TestOutputLimit(t *testing.T) {
	t.Parallel()
	dir := project(t, map[string]string{"main.go": mainGo, "main_test.go": `package main

import (
	"fmt"
	"testing"
)

func TestTalk(t *testing.T) {
	for {
		fmt.Println("and so on, and so on, and so on")
	}
}
`})
	r := run(t, pipeline.Spec{Dir: dir, LogLimit: 100_000, TailBytes: 1000})
	if last := r.Last(); last.Outcome != pipeline.Failure || last.Cause != pipeline.CauseOutputLimit {
		t.Fatalf("%+v", last)
	}
	if r.LogSize != 100_000 || len(r.LogTail) != 1000 || fileDigest(t, r.LogFile) != r.LogDigest {
		t.Fatalf("log of %d, tail of %d", r.LogSize, len(r.LogTail))
	}
}

// The host's variables, secrets among them, do not reach a project's tests.
func TestEnvironmentIsClean(t *testing.T) {
	t.Setenv("LEMNIS_TEST_SECRET", "hunter2")
	t.Setenv("GOFLAGS", "-tags=host")
	home, _ := os.UserHomeDir()
	r := run(t, pipeline.Spec{Dir: project(t, map[string]string{"main.go": mainGo, "main_test.go": fmt.Sprintf(`package main

import (
	"os"
	"strings"
	"testing"
)

func TestEnv(t *testing.T) {
	if os.Getenv("HOME") == %q || strings.Contains(strings.Join(os.Environ(), " "), "hunter2") {
		t.Fatal(os.Environ())
	}
}
`, home)})})
	if !r.Succeeded() {
		t.Fatalf("%+v\n%s", r.Last(), r.LogTail)
	}
}

func TestMachineryFails(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := pipeline.Run(t.Context(), pipeline.Spec{Dir: t.TempDir(), Output: t.TempDir()}); !errors.Is(err, exec.ErrNotFound) {
		t.Fatalf("want exec.ErrNotFound, got %v", err)
	}
}

// Tests are built as the executable is, but for those that find files by their own path.
func TestTrimTests(t *testing.T) {
	t.Parallel()
	const finds = `package main

import (
	"os"
	"runtime"
	"testing"
)

func TestFindsItself(t *testing.T) {
	_, file, _, _ := runtime.Caller(0)
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
}
`
	for _, test := range []struct {
		name, source string
		trimmed      bool
	}{{"plain", testGo, true}, {"finds files by its own path", finds, false}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := run(t, pipeline.Spec{Dir: project(t, map[string]string{"main.go": mainGo, "main_test.go": test.source}), TrimTests: true})
			if !r.Succeeded() {
				t.Fatalf("%+v\n%s", r.Last(), r.LogTail)
			}
			_, command, _ := strings.Cut(r.LogTail, "$ go test")
			command, _, _ = strings.Cut(command, "\n")
			if got := strings.Contains(command, "-trimpath"); got != test.trimmed {
				t.Errorf("trimmed: %v, want %v: go test%s", got, test.trimmed, command)
			}
		})
	}
}

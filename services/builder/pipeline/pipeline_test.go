package pipeline_test

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/testreport"
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
	if !r.Succeeded() || len(r.Steps) != 3 {
		t.Fatalf("steps %+v\n%s", r.Steps, r.LogTail)
	}
	if filepath.Base(r.Executable) != "tiny" {
		t.Errorf("executable %s", r.Executable)
	}
	if r.Count(testreport.Passed) != 3 || r.Count(testreport.Skipped) != 1 || r.Tests[1].Name != "TestDouble/a" {
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
		{"nothing known", map[string]string{"go.mod": "", "a.txt": "x"}, "", "definition", pipeline.CauseDefinition, "no go.mod"},
		{"broken definition", map[string]string{".lemnis.yaml": "steps:\n  - name: a\n    runs: x\n"}, "", "definition", pipeline.CauseDefinition, ".lemnis.yaml:3:5: steps[0].runs"},
		{"bad module", map[string]string{"go.mod": "modul x\n", "main.go": mainGo}, "", "compile", executor.CauseExit, "exit status 1"},
		{"wrong main", map[string]string{"main.go": mainGo}, "./cmd/x", "definition", pipeline.CauseDefinition, "./cmd/x; there is: ."},
		{"nothing made", map[string]string{".lemnis.yaml": "steps: [{name: a, run: ':'}]\npackage: {executable: bin/a}\n"}, "", "packaging", pipeline.CausePackage, "bin/a is to be packaged"},
		{"a link made", map[string]string{".lemnis.yaml": "steps: [{name: a, run: ln -s /etc/passwd a}]\npackage: {executable: a}\n"}, "", "packaging", pipeline.CausePackage, "no step left a file there"},
		{"no such secret", map[string]string{".lemnis.yaml": "steps: [{name: a, run: ':', secrets: {A: 'secret:a'}}]\n"}, "", "a", pipeline.CauseSecret, "secret:a"},
		{"no engine", map[string]string{".lemnis.yaml": "steps: [{name: a, run: ':', image: alpine}]\n"}, "", "a", pipeline.CauseDefinition, "no container engine"},
		{"never on this occasion", map[string]string{".lemnis.yaml": "steps: [{name: a, run: ':', when: 'branch == \"x\"'}]\n"}, "", "definition", pipeline.CauseDefinition, "no step's condition holds"},
		{"no report", map[string]string{".lemnis.yaml": "steps: [{name: a, run: 'echo hello >r', reports: {tests: [r]}}]\n"}, "", "a", pipeline.CauseTests, "report r"},
		{"compile", map[string]string{"main.go": "package main\n\nfunc main() { missing() }\n"}, "", "compile", executor.CauseExit, "undefined: missing"},
		{"test fails", map[string]string{"main.go": mainGo, "main_test.go": strings.Replace(testGo, "!= 4", "!= 5", 1)}, "", "test", pipeline.CauseTests, "2 failed: TestDouble/a, TestDouble/b"},
		{"test panics", map[string]string{"main.go": mainGo, "main_test.go": "package main\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestDies(t *testing.T) { os.Exit(3) }\n"}, "", "test", pipeline.CauseTests, "TestDies"},
		{"test does not build", map[string]string{"main.go": mainGo, "main_test.go": "package main\n\nvar x = missing\n"}, "", "test", pipeline.CauseTests, "package example.org/tiny"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := run(t, pipeline.Spec{Dir: project(t, test.files), Main: test.main})
			last, _ := r.Failed()
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
	for _, main := range []string{"./a", "example.org/tiny/a"} {
		r := run(t, pipeline.Spec{Main: main, Dir: project(t, map[string]string{"a/a.go": mainGo, "b/b.go": mainGo})})
		if !r.Succeeded() || filepath.Base(r.Executable) != "a" {
			t.Fatalf("%+v", r)
		}
	}
}

func TestALibraryIsNotPackaged(t *testing.T) {
	r := run(t, pipeline.Spec{Dir: project(t, map[string]string{"a.go": "package tiny\n"})})
	if !r.Succeeded() || r.Executable != "" || !strings.Contains(strings.Join(r.Found, " "), "a library") {
		t.Fatalf("%+v", r)
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
		t.Fatalf("%+v\n%s", r.Steps, r.LogTail)
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
			r := run(t, pipeline.Spec{Dir: project(t, map[string]string{"main.go": mainGo, "main_test.go": test.source})})
			if !r.Succeeded() {
				t.Fatalf("%+v\n%s", r.Steps, r.LogTail)
			}
			_, command, _ := strings.Cut(r.LogTail, "$ go test")
			command, _, _ = strings.Cut(command, "\n")
			if got := strings.Contains(command, "-trimpath"); got != test.trimmed {
				t.Errorf("trimmed: %v, want %v: go test%s", got, test.trimmed, command)
			}
		})
	}
}

// A failure in quarantine counts as skipped; what fails beside it does not, nor does a step that fails without a test.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		tests, quarantined string
		ok                 bool
		skipped            int
	}{
		"it alone":          {"not ok 1 - a\nok 2 - b\n", "a", true, 1},
		"another":           {"not ok 1 - a\nok 2 - b\n", "b", false, 0},
		"another beside it": {"not ok 1 - a\nnot ok 2 - b\n", "a", false, 1},
		"no test":           {"ok 1 - a\nok 2 - b\n", "a", false, 0},
	}
	for name, c := range cases {
		dir := project(t, map[string]string{"go.mod": "", ".lemnis.yaml": "steps:\n  - name: test\n    run: printf 'TAP version 13\\n1..2\\n" + strings.ReplaceAll(c.tests, "\n", "\\n") +
			"' > r.tap; exit 1\n    reports: {tests: [r.tap]}\n"})
		report := run(t, pipeline.Spec{Dir: dir, Quarantined: func(test string) string {
			if strings.HasSuffix(test, c.quarantined) {
				return "of bo until 2026-12-24"
			}
			return ""
		}})
		if report.Succeeded() != c.ok || report.Count(testreport.Skipped) != c.skipped || len(report.Quarantined) != c.skipped {
			t.Errorf("%s: %+v, tests %+v\n%s", name, report.Steps, report.Tests, report.LogTail)
		}
	}
}

// A test that failed since one within it did goes with it, and a test takes those within it along.
func TestQuarantineWithin(t *testing.T) {
	t.Parallel()
	red := strings.Replace(testGo, "!= 4", "!= 5", 1)
	for quarantined, ok := range map[string]bool{"TestDouble": true, "TestDouble/a": false, "": false} {
		report := run(t, pipeline.Spec{Dir: project(t, map[string]string{"main.go": mainGo, "main_test.go": red}), Quarantined: func(test string) string {
			if quarantined != "" && test == "example.org/tiny."+quarantined {
				return "of bo until 2026-12-24"
			}
			return ""
		}})
		if report.Succeeded() != ok {
			t.Errorf("%q: %+v, tests %+v", quarantined, report.Steps, report.Tests)
		}
	}
}

package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/testreport"
	"github.com/lemnis/lemnis/services/builder/definition"
	"github.com/lemnis/lemnis/services/builder/pipeline"
)

// defined is a checkout with a definition of its own.
func defined(t *testing.T, text string) string {
	t.Helper()
	return project(t, map[string]string{"go.mod": "", ".lemnis.yaml": text})
}

func outcomes(r pipeline.Report) string {
	var all []string
	for _, s := range r.Steps {
		all = append(all, s.Name+" "+string(s.Outcome))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func TestStepsRunAsAGraph(t *testing.T) {
	t.Parallel()
	dir := defined(t, `
environment: {WHO: world}
steps:
  - {name: b, run: "test -e a1 && test -e a2 && echo hello $WHO", needs: [a]}
  - {name: a, run: "touch a$N", needs: [], matrix: {N: ["1", "2"]}}
  - {name: no, run: "false", needs: [], when: change != ""}
  - {name: broken, run: "echo oh; exit 3", needs: [no]}
  - {name: lost, run: "touch lost", needs: [broken, b]}
  - {name: apart, run: "true", needs: []}
`)
	var live bytes.Buffer
	r := run(t, pipeline.Spec{Dir: dir, Occasion: definition.Occasion{Branch: "main"}, Live: &live})
	if got, want := outcomes(r), "a (N=1) success, a (N=2) success, apart success, b success, broken failure, lost skipped"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if failed, _ := r.Failed(); failed.Reason != "exit status 3: oh" || failed.Attempts != 1 {
		t.Errorf("%+v", failed)
	}
	if !strings.Contains(live.String(), "hello world\n") || fileDigest(t, r.LogFile) != r.LogDigest {
		t.Errorf("live: %s", live.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "lost")); err == nil {
		t.Error("what needs a broken step was run")
	}
}

func TestChosenSteps(t *testing.T) {
	t.Parallel()
	const text = "steps:\n  - {name: a, run: ':'}\n  - {name: b, run: ':'}\n  - {name: c, run: ':'}\n"
	if got := outcomes(run(t, pipeline.Spec{Dir: defined(t, text), Only: []string{"b"}})); got != "a success, b success" {
		t.Error(got)
	}
	if failed, _ := run(t, pipeline.Spec{Dir: defined(t, text), Only: []string{"d"}}).Failed(); !strings.Contains(failed.Reason, `no step "d"; there is: a, b, c`) {
		t.Errorf("%+v", failed)
	}
}

func TestAStepIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := run(t, pipeline.Spec{Dir: defined(t, "steps: [{name: a, run: 'echo x >>tries; test $(wc -l <tries) = 3', retries: 2}]")})
	if !r.Succeeded() || r.Steps[0].Attempts != 3 {
		t.Errorf("%+v", r.Steps)
	}
	r = run(t, pipeline.Spec{Dir: defined(t, "steps: [{name: a, run: 'false', retries: 1}]")})
	if r.Succeeded() || r.Steps[0].Attempts != 2 {
		t.Errorf("%+v", r.Steps)
	}
}

func TestTimeoutAndOutputOfAStep(t *testing.T) {
	t.Parallel()
	for text, cause := range map[string]pipeline.Cause{
		"steps: [{name: a, run: sleep 600, timeout: 200ms}]":                                          "time-limit",
		"steps: [{name: a, run: 'yes', limits: {output: 1MiB}}]":                                      "output-limit",
		"steps: [{name: a, run: 'sleep 600 & sleep 600 & sleep 600 & wait', limits: {processes: 2}}]": "process-limit",
	} {
		if failed, _ := run(t, pipeline.Spec{Dir: defined(t, text)}).Failed(); failed.Cause != cause {
			t.Errorf("%s: %+v", text, failed)
		}
	}
}

func TestSecretsAreGivenAndMasked(t *testing.T) {
	t.Parallel()
	r := run(t, pipeline.Spec{
		Dir:    defined(t, "steps: [{name: a, run: 'test $TOKEN = hunter2; printf hun; sleep 0.1; printf ter2; echo \" \\033[31mred\"', secrets: {TOKEN: 'secret:token'}}]"),
		Secret: func(name string) (string, error) { return map[string]string{"token": "hunter2"}[name], nil },
	})
	if text, err := os.ReadFile(r.LogFile); err != nil || !r.Succeeded() || strings.Contains(string(text), "ter2\n") || !strings.Contains(string(text), "*** \x1b[31mred\n") {
		t.Errorf("%+v, %v: %q", r.Steps, err, text)
	}
}

func TestCachesAreKeptFromRunToRun(t *testing.T) {
	t.Parallel()
	caches := t.TempDir()
	const text = "steps: [{name: a, always: true, run: 'mkdir -p deep/cache; echo x >>deep/cache/runs; wc -l <deep/cache/runs', cache: [deep/cache]}]"
	for n := 1; n <= 3; n++ {
		r := run(t, pipeline.Spec{Dir: defined(t, text), Kept: caches, Tree: "t", Name: fmt.Sprint(n)})
		if !r.Succeeded() || !strings.HasSuffix(r.LogTail, fmt.Sprintf("\n%d\n", n)) {
			t.Fatalf("run %d: %+v: %s", n, r.Steps, r.LogTail)
		}
	}
	// A link in the way is not followed.
	outside := t.TempDir()
	r := run(t, pipeline.Spec{Kept: caches, Tree: "t", Dir: defined(t, "steps:\n  - {name: link, run: ln -s "+outside+" deep}\n  - {name: a, run: ':', cache: [deep/cache]}\n")})
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 || !r.Succeeded() || !strings.Contains(r.LogTail, "cache deep/cache: ") {
		t.Errorf("%v, %v, %+v: %s", left, err, r.Steps, r.LogTail)
	}
}

// What the commit has in a cached folder is there for every step.
func TestACacheIsNotTakenFromTheCommit(t *testing.T) {
	t.Parallel()
	dir := defined(t, "steps:\n  - {name: a, run: 'test -f vendor/one', cache: [vendor]}\n  - {name: b, run: 'test -f vendor/one', needs: [a]}\n")
	if err := os.MkdirAll(filepath.Join(dir, "vendor"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vendor", "one"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, pipeline.Spec{Dir: dir, Kept: t.TempDir(), Tree: "t", Files: map[string]string{".lemnis.yaml": "1", "vendor/one": "2"}})
	if !r.Succeeded() || !strings.Contains(r.LogTail, "cache vendor: it is not kept: the commit has vendor/one") {
		t.Errorf("%+v: %s", r.Steps, r.LogTail)
	}
}

func TestOldReportsAreNotTakenForNew(t *testing.T) {
	t.Parallel()
	dir := defined(t, "steps: [{name: a, run: ':', reports: {tests: [tests.json]}}]")
	if err := os.WriteFile(filepath.Join(dir, "tests.json"), []byte(`{"Action":"pass","Package":"a","Test":"TestA"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := run(t, pipeline.Spec{Dir: dir}); len(r.Tests) != 0 {
		t.Errorf("%+v", r.Tests)
	}
}

func TestCancelledRun(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	live := &onWrite{word: "up\n", do: func() { cancel(errors.New("enough")) }}
	r, err := pipeline.Run(ctx, pipeline.Spec{Dir: defined(t, "steps: [{name: a, run: echo up; sleep 600}, {name: b, run: ':'}]"), Output: t.TempDir(), Live: live})
	if err == nil || !strings.Contains(err.Error(), "enough") {
		t.Error(err)
	}
	if got := outcomes(r); !strings.HasPrefix(got, "a error") {
		t.Error(got)
	}
}

// onWrite does something once a word was written.
type onWrite struct {
	word string
	do   func()
}

func (o *onWrite) Write(p []byte) (int, error) {
	if strings.HasSuffix(string(p), o.word) && !strings.Contains(string(p), "$") {
		o.do()
	}
	return len(p), nil
}

func TestReportsOfOtherTools(t *testing.T) {
	t.Parallel()
	dir := defined(t, `
steps:
  - name: test
    run: |
      mkdir -p out/deep
      echo '<testsuite name="s"><testcase name="a"/><testcase name="b"><failure>no</failure></testcase></testsuite>' >out/deep/junit.xml
      printf 'SF:a.js\nDA:1,1\nDA:2,0\nend_of_record\n' >lcov.info
      exit 1
    reports: {tests: ["out/**/*.xml"], coverage: [lcov.info]}
`)
	r := run(t, pipeline.Spec{Dir: dir})
	if failed, _ := r.Failed(); failed.Reason != "1 failed: b" || r.Count(testreport.Passed) != 1 || r.Coverage != 50 || r.Statements != 2 {
		t.Errorf("%+v, %.0f of %d\n%s", r.Steps, r.Coverage, r.Statements, r.LogTail)
	}
}

// What a repository holds that can not be read is the repository's, at once: tried again, it would hold up who comes after it.
func TestAProjectThatCanNotBeReadIsAFinding(t *testing.T) {
	t.Parallel()
	link := func(to string) func(dir string) error {
		return func(dir string) error { return os.Symlink(to, filepath.Join(dir, ".lemnis.yaml")) }
	}
	text := func(name, text string) func(dir string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600) }
	}
	for name, c := range map[string]struct {
		put  func(dir string) error
		want string
	}{
		"no JSON":       {text("package.json", "{bad"), "package.json: invalid character"},
		"another JSON":  {text("package.json", `{"scripts": {"test": 5}}`), "package.json: json: cannot unmarshal number"},
		"a folder":      {func(dir string) error { return os.Mkdir(filepath.Join(dir, "Cargo.toml"), 0o700) }, "Cargo.toml is no file"},
		"too large":     {text("pyproject.toml", strings.Repeat("#", 2<<20)), "pyproject.toml is no file of at most"},
		"a loop":        {link(".lemnis.yaml"), "too many levels of symbolic links"},
		"a link out":    {link("/etc/passwd"), "escapes"},
		"no such thing": {link("nowhere"), "nothing that says how to build it"},
	} {
		dir := t.TempDir()
		if err := c.put(dir); err != nil {
			t.Fatal(err)
		}
		r, err := pipeline.Run(t.Context(), pipeline.Spec{Dir: dir, Output: t.TempDir()})
		if failed, is := r.Failed(); err != nil || !is || failed.Cause != pipeline.CauseDefinition || !strings.Contains(failed.Reason, c.want) {
			t.Errorf("%s: %v, %+v", name, err, failed)
		}
	}
}

// Reasons are parts of events, which have a bound, and tests name themselves.
func TestReasonsAreBounded(t *testing.T) {
	t.Parallel()
	dir := defined(t, "steps: [{name: a, run: 'exit 1', reports: {tests: [r.xml]}}]\n")
	name := strings.Repeat("é", 100_000)
	script := "steps: [{name: a, run: 'cp in.xml r.xml; exit 1', reports: {tests: [r.xml]}}]\n"
	for file, text := range map[string]string{".lemnis.yaml": script, "in.xml": `<testsuite><testcase name="` + name + `"><failure/></testcase></testsuite>`} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := run(t, pipeline.Spec{Dir: dir})
	if failed, is := r.Failed(); !is || !strings.HasPrefix(failed.Reason, "1 failed: é") || len(failed.Reason) > 20_000 {
		t.Errorf("%d bytes: %.100s", len(failed.Reason), failed.Reason)
	}
}

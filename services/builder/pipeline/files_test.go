package pipeline

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lemnis/lemnis/internal/executor"
)

// Tasks of a matrix write the same report: each one's is read, whole, as if it were alone.
func TestTasksOfAMatrixDoNotDisturbOneAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := `test ! -e lock || { echo beside another; exit 1; }; touch lock; echo '<testsuite><testcase name="'$N'"/></testsuite>' >r.xml; sleep 0.1; rm lock`
	text := "steps: [{name: a, run: " + fmt.Sprintf("%q", script) + ", matrix: {N: [a, b, c, d]}, reports: {tests: [r.xml]}}]\n"
	if err := os.WriteFile(filepath.Join(dir, ".lemnis.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), Spec{Dir: dir, Output: t.TempDir(), Host: executor.NewProcess(executor.None), Parallel: 4})
	if err != nil || !r.Succeeded() || len(r.Steps) != 4 {
		t.Fatalf("%v %+v\n%s", err, r.Steps, r.LogTail)
	}
	var names []string
	for _, c := range r.Tests {
		names = append(names, c.Name)
	}
	if strings.Join(names, " ") != "a b c d" {
		t.Errorf("read %v", names)
	}
}

// Those that leave nothing still run at once.
func TestTasksOfAMatrixRunAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// Each waits for the other.
	script := `touch $N; while ! test -e a -a -e b; do :; done`
	text := "steps: [{name: a, run: " + fmt.Sprintf("%q", script) + ", matrix: {N: [a, b]}, timeout: 1m}]\n"
	if err := os.WriteFile(filepath.Join(dir, ".lemnis.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), Spec{Dir: dir, Output: t.TempDir(), Host: executor.NewProcess(executor.None), Parallel: 2})
	if err != nil || !r.Succeeded() {
		t.Fatalf("%v %+v\n%s", err, r.Steps, r.LogTail)
	}
}

// A step of a hostile repository puts a link to elsewhere in the place of a cache's parent, again and again.
func TestCachesStayWithinTheCheckout(t *testing.T) {
	t.Parallel()
	dir, outside, caches := t.TempDir(), t.TempDir(), t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	r := &run{spec: Spec{Dir: dir}, root: root}
	parent, link, store := filepath.Join(dir, "p"), filepath.Join(dir, "q"), filepath.Join(caches, "store")
	for _, at := range []string{parent, filepath.Join(outside, "taken")} {
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, parent, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
			}
		}
	}()
	if err := os.MkdirAll(filepath.Join(store, "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		_ = r.copyIn(store, "p/given")
		if _, err := os.Lstat(filepath.Join(outside, "given")); err == nil {
			t.Error("a folder of the store was copied out of the checkout")
			break
		}
		_ = r.moveOut("p/taken", filepath.Join(caches, "taken"))
		if _, err := os.Lstat(filepath.Join(outside, "taken")); err != nil {
			t.Error("a folder outside was moved into the store")
			break
		}
		for _, at := range []string{parent, link} {
			if info, err := os.Lstat(at); err == nil && info.IsDir() {
				_ = root.RemoveAll(filepath.Base(at) + "/given")
			}
		}
	}
	close(stop)
	<-stopped
}

// Rights that a step leaves are the project's: its step fails, by name, and the machinery does not.
func TestRightsThatStepsLeave(t *testing.T) {
	if dir := os.Getenv("PIPELINE_IN"); dir != "" {
		r, err := Run(t.Context(), Spec{Dir: dir, Output: t.TempDir(), Host: executor.NewProcess(executor.None)})
		failed, _ := r.Failed()
		fmt.Printf("error %v, failed %s: %s: %s, tests %d\n", err, failed.Name, failed.Cause, failed.Reason, len(r.Tests))
		return
	}
	t.Parallel()
	host := executor.NewProcess(executor.Auto)
	if isolated, why, err := host.Isolated(t.Context()); err != nil || !isolated {
		t.Skipf("SKIPPED: what becomes of rights that steps leave was NOT shown: %s (%v)", why, err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const report = `echo '<testsuite><testcase name=\"a\"/></testsuite>' >made/r.xml`
	for name, c := range map[string]struct{ text, want string }{
		"a folder that nobody may look into": {`steps: [{name: a, run: "mkdir -p made closed; chmod 0 closed"}, {name: b, run: "` + report + `", reports: {tests: ["**/r.xml"]}}]`,
			"error <nil>, failed : : , tests 1"},
		"a report that can not be removed": {`steps: [{name: a, run: "mkdir made; ` + report + `; chmod 555 made"}, {name: b, run: ":", reports: {tests: [made/r.xml]}}]`,
			"failed b: files: a report of before can not be removed: "},
		"an executable that can not be read": {`{steps: [{name: a, run: "touch x; chmod 0 x"}], package: {executable: x}}`,
			"error <nil>, failed packaging: package: x is to be packaged, and can not be read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, ".lemnis.yaml"), []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			// As root everything may be read: in a step nobody is root.
			got, err := host.Run(t.Context(), executor.Step{Name: "rights", Dir: dir, Script: self + " -test.run='^TestRightsThatStepsLeave$'", ReadOnly: []string{self},
				Environment: []string{"PIPELINE_IN=" + dir}}, &out)
			if err != nil || !got.Succeeded() || !strings.Contains(out.String(), c.want) {
				t.Errorf("%v %+v: %s\nwant %s", err, got, out.String(), c.want)
			}
			if strings.Contains(c.want, "files:") && !strings.Contains(out.String(), "made/r.xml") {
				t.Errorf("it does not say which: %s", out.String())
			}
		})
	}
}

func TestPattern(t *testing.T) {
	t.Parallel()
	for text, names := range map[string]map[string]bool{
		"**/*.{ts,tsx}":       {"a.ts": true, "b/c/a.tsx": true, "a.t": false, "a.{ts,tsx}": false},
		"{a,b/**}/c":          {"a/c": true, "b/x/y/c": true, "d/c": false},
		"a{b}c":               {"a{b}c": true, "abc": false},
		"a{b,c":               {"a{b,c": true, "ab": false},
		"pages/[id].tsx":      {"pages/[id].tsx": true, "pages/i.tsx": true, "pages/x.tsx": false},
		"[a-c].go":            {"b.go": true, "d.go": false, "[a-c].go": true},
		"[!a].go":             {"b.go": true, "a.go": false, "/.go": false},
		"[z-a].go":            {"[z-a].go": true, "b.go": false},
		"[...slug]/(x)/a+b.c": {"[...slug]/(x)/a+b.c": true, "[...slug]/(x)/aab.c": false},
		"a,b":                 {"a,b": true, "a": false},
		"src":                 {"src/a/b": true, "srcs": false},
	} {
		for name, want := range names {
			if got := pattern(text).MatchString(name); got != want {
				t.Errorf("%s names %s: %v", text, name, got)
			}
		}
	}
}

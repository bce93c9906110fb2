package builder_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder"
)

// foreign are repositories that others wrote, as modules of certain versions: each is put where it lies in its repository.
var foreign = []struct {
	name    string
	modules map[string]string // folder to path and version
	program bool              // there is one main package, which is packaged
}{
	{"library", map[string]string{".": "github.com/google/uuid@v1.6.0"}, false},
	{"service", map[string]string{".": "github.com/prometheus/statsd_exporter@v0.28.0"}, true},
	{"workspace", map[string]string{".": "go.uber.org/zap@v1.27.0", "exp": "go.uber.org/zap/exp@v0.3.0"}, true}, // the program writes its README
}

// Repositories that nobody here wrote go through without configuration: merged, compiled, tested, and packaged where there is a program.
func TestForeignRepositories(t *testing.T) {
	if os.Getenv("LEMNIS_TEST_FOREIGN") == "" {
		t.Skip("SKIPPED: repositories that nobody here wrote were NOT taken through the builder; make test-foreign does, which sets LEMNIS_TEST_FOREIGN")
	}
	for _, f := range foreign {
		t.Run(f.name, func(t *testing.T) {
			o := emptyOrigin(t)
			o.fill(t, f.modules)
			begun := time.Now()
			s := newShift(t, builder.Options{Registry: ociRegistry(t)}, project(o))
			finished := s.pipeline(t, find(o.commit(t, "find", map[string]string{"NOTES": "a change\n"})))
			if finished.Outcome != events.Success {
				t.Fatalf("%s: %s", finished.Outcome, finished.Errors)
			}
			m := finished.Lemnis.Merge
			if m.Evidence.Tests == 0 || m.Evidence.Failed > 0 {
				t.Errorf("evidence %+v", m.Evidence)
			}
			t.Logf("merged: %d tests, %d skipped, coverage %.1f %%, %s", m.Evidence.Tests, m.Evidence.Skipped, m.Evidence.Coverage, time.Since(begun).Round(100*time.Millisecond))
			if _, err := s.work(t, "merge", "7", 1, events.QueueTested{Merge: m}); err != nil {
				t.Fatal(err)
			}
			if at := o.head(t, "main"); at != m.Commit {
				t.Fatalf("main is %s, tested was %s", at, m.Commit)
			}
			got, err := s.work(t, "package", "b1", 1, events.BuildQueued{Lemnis: events.BuildDetail{Service: "api", Merge: m}})
			if err != nil {
				t.Fatal(err)
			}
			built := got.(events.BuildFinished).Lemnis
			t.Logf("packaged: %s %s %s, %d bytes", built.Outcome, built.Reason, built.Digest, built.Size)
			if is := built.Outcome == events.Success; is != f.program || !is && !strings.Contains(built.Reason, "nothing to package") {
				t.Errorf("%+v", built)
			}
		})
	}
}

// fill makes the first commit of main of modules; where they can not be fetched the test is skipped.
func (o origin) fill(t *testing.T, modules map[string]string) {
	t.Helper()
	tree := t.TempDir()
	for at, module := range modules {
		cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module)
		cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "GOWORK=off", "GOFLAGS=")
		out, err := cmd.Output()
		var found struct{ Dir, Error string }
		if wrong := json.Unmarshal(out, &found); err != nil || wrong != nil || found.Dir == "" {
			t.Skipf("%s can not be fetched: %s %v", module, found.Error, errors.Join(err, wrong))
		}
		if err := os.CopyFS(filepath.Join(tree, filepath.FromSlash(at)), os.DirFS(found.Dir)); err != nil {
			t.Fatal(err)
		}
	}
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", tree, "-c", "user.name=Ann", "-c", "user.email=ann@example.org"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	if len(modules) > 1 { // their repository has none
		var work strings.Builder
		work.WriteString("go 1.24\n")
		for at := range modules {
			fmt.Fprintf(&work, "use ./%s\n", at)
		}
		if err := os.WriteFile(filepath.Join(tree, "go.work"), []byte(work.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	git("init", "--quiet", "--initial-branch=main")
	git("add", "--all", "--force")
	git("commit", "--quiet", "--message", fmt.Sprint(modules["."]))
	git("push", "--quiet", o.dir, "main")
}

package builder_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder"
)

// origin is a real bare repository, as a git host holds it.
type origin struct{ dir string }

func (o origin) git(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=Ann", "-c", "user.email=ann@example.org", "--git-dir=" + o.dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit sets files on a branch, which begins at main when it is new, and returns its head.
func (o origin) commit(t testing.TB, branch string, files map[string]string) string {
	t.Helper()
	from := ""
	for _, start := range []string{branch, "main"} {
		if o.git(t, "", "for-each-ref", "refs/heads/"+start) != "" {
			from = "from refs/heads/" + start + "^0\n"
			break
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "commit refs/heads/%s\ncommitter Ann <ann@example.org> 1700000000 +0000\ndata 4\nWork\n%s", branch, from)
	for name, content := range files {
		fmt.Fprintf(&b, "M 100644 inline %s\ndata %d\n%s\n", name, len(content), content)
	}
	o.git(t, b.String(), "fast-import", "--quiet", "--force")
	return o.head(t, branch)
}

func (o origin) head(t testing.TB, branch string) string {
	t.Helper()
	return o.git(t, "", "rev-parse", "refs/heads/"+branch)
}

func emptyOrigin(t testing.TB) origin {
	t.Helper()
	o := origin{filepath.Join(t.TempDir(), "api.git")}
	o.git(t, "", "init", "--quiet", "--bare", "--initial-branch=main", o.dir)
	return o
}

// module is a small Go program with a test.
var module = map[string]string{
	"go.mod":       "module example.org/api\n\ngo 1.24\n",
	"main.go":      "package main\n\nfunc main() { println(find(\"b\")) }\n",
	"find.go":      "package main\n\nimport \"strings\"\n\nfunc find(s string) int { return strings.Index(\"abc\", s) }\n",
	"find_test.go": "package main\n\nimport \"testing\"\n\nfunc TestFind(t *testing.T) {\n\tif find(\"b\") != 1 {\n\t\tt.Fatal(\"not found\")\n\t}\n}\n",
}

func goOrigin(t testing.TB) origin {
	t.Helper()
	o := emptyOrigin(t)
	o.commit(t, "main", module)
	return o
}

// textOrigin holds no Go: its runs fail at once, with the merge commit made all the same.
func textOrigin(t testing.TB) origin {
	t.Helper()
	o := emptyOrigin(t)
	o.commit(t, "main", map[string]string{"README": "hello\n"})
	return o
}

func ociRegistry(t testing.TB) string {
	t.Helper()
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	t.Cleanup(s.Close)
	return s.URL
}

func project(o origin) events.Project {
	p := shop(1)
	p.Repositories[0].URL = o.dir
	return p
}

// shift is a builder at work: its effects, and what they reported.
type shift struct {
	project events.Project
	do      map[string]func(context.Context, *service.Job) error
	apply   []func(events.Event) // of read models
	heard   []service.Report
	deaf    error // when set, reports fail with it: the bus is gone
}

func newShift(t testing.TB, o builder.Options, p events.Project) *shift {
	t.Helper()
	if o.Data == "" {
		o.Data = t.TempDir()
	}
	s := &shift{project: p, do: map[string]func(context.Context, *service.Job) error{}}
	for _, d := range builder.New(o) {
		for _, e := range d.Effects {
			s.do[e.Name] = e.Do
		}
		for _, p := range d.Projections {
			s.apply = append(s.apply, p.Apply)
		}
	}
	return s
}

// meet shows a fact to the read models.
func (s *shift) meet(e events.Event) {
	for _, apply := range s.apply {
		apply(e)
	}
}

// work runs an effect on a fact and returns its last result.
func (s *shift) work(t testing.TB, effect, key string, attempt uint64, content any) (any, error) {
	t.Helper()
	s.heard = nil
	fact := events.Event{Project: s.project.Name, Key: key, Content: content, Kind: events.Stated, Attempt: attempt}
	err := s.do[effect](t.Context(), service.NewJob(fact, s.project, attempt, func(_ context.Context, r service.Report) error {
		if s.deaf != nil {
			return s.deaf
		}
		s.heard = append(s.heard, r)
		return nil
	}))
	if len(s.heard) == 0 {
		return nil, err
	}
	return s.heard[len(s.heard)-1].Content, err
}

func (s *shift) pipeline(t testing.TB, m events.MergeDetail) events.PipelineRunFinished {
	t.Helper()
	got, err := s.work(t, "pipeline", "7#1", 1, events.PipelineRunQueued{PipelineName: "merge", Lemnis: events.RunDetail{Merge: m}})
	if err != nil {
		t.Fatal(err)
	}
	return got.(events.PipelineRunFinished)
}

func find(head string) events.MergeDetail {
	return events.MergeDetail{Change: "7", Repository: "api", Branch: "find", Base: "main", Head: head, Item: "T-1", Title: "Find things", Author: "ann", Round: 1}
}

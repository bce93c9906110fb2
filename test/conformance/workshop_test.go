package conformance

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/builder"
)

// library is a module that the service of these tests is made with.
const library = "golang.org/x/mod"

// source is a repository with a service that has a module in it. Its sums are those of this test's own modules.
func source(t *testing.T) (dir, commit, version string) {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", library).Output()
	if err != nil {
		t.Fatal(err)
	}
	version = strings.TrimSpace(string(out))
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	mine := slices.DeleteFunc(strings.SplitAfter(string(sums), "\n"), func(line string) bool { return !strings.HasPrefix(line, library+" "+version) })
	files := map[string]string{
		"go.mod":  "module example.org/api\n\ngo 1.26.0\n\nrequire " + library + " " + version + "\n",
		"go.sum":  strings.Join(mine, ""),
		"main.go": "package main\n\nimport \"" + library + "/semver\"\n\nfunc main() { println(semver.Canonical(\"v1\")) }\n",
	}
	dir = filepath.Join(t.TempDir(), "api.git")
	git := func(stdin string, args ...string) string {
		cmd := exec.Command("git", append([]string{"--git-dir=" + dir}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
		cmd.Stdin = strings.NewReader(stdin)
		text, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, text)
		}
		return strings.TrimSpace(string(text))
	}
	git("", "init", "--quiet", "--bare", "--initial-branch=main", dir)
	var b strings.Builder
	b.WriteString("commit refs/heads/main\ncommitter Ann <ann@example.org> 1700000000 +0000\ndata 4\nWork\n")
	for name, content := range files {
		fmt.Fprintf(&b, "M 100644 inline %s\ndata %d\n%s\n", name, len(content), content)
	}
	git(b.String(), "fast-import", "--quiet")
	return dir, git("", "rev-parse", "refs/heads/main"), version
}

func project(repository string) events.Project {
	p := events.DefaultProject("shop")
	p.Repositories = []events.RepositoryRef{{Name: "api", URL: repository}}
	return p
}

// pack packages a repository's master copy as the builder's worker does.
func pack(t *testing.T, o builder.Options, p events.Project) (events.BuildFinished, oci.Reference) {
	t.Helper()
	if o.Data == "" {
		o.Data = t.TempDir()
	}
	var finished events.BuildFinished
	for _, d := range builder.New(o) {
		for _, e := range d.Effects {
			if e.Name != "package" {
				continue
			}
			queued := events.BuildQueued{Lemnis: events.BuildDetail{Service: "api", Merge: events.MergeDetail{Repository: "api", Base: "main"}}}
			fact := events.Event{ID: "queued-1", Project: p.Name, Key: "api@initial", Content: queued, Kind: events.Stated, Attempt: 1}
			err := e.Do(t.Context(), service.NewJob(fact, p, 1, func(_ context.Context, r service.Report) error {
				if c, ok := r.Content.(events.BuildFinished); ok {
					finished = c
				}
				return nil
			}))
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if finished.Lemnis.Outcome != events.Success {
		t.Fatalf("%+v", finished.Lemnis)
	}
	ref, err := oci.ParsePURL(finished.ArtifactID)
	if err != nil {
		t.Fatal(err)
	}
	return finished, ref
}

package demo

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository makes a repository of files, one commit on the branch trunk.
func repository(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "My Shop.v2")
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in(t, dir, "init", "-q", "-b", "trunk")
	commit(t, dir, "first")
	return dir
}

func in(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := gitOutput(t.Context(), dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func commit(t *testing.T, dir, message string) {
	t.Helper()
	in(t, dir, "add", "-A")
	in(t, dir, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-q", "-m", message)
}

const module = "module example.org/web\n\ngo 1.25\n"

func TestOwnRepository(t *testing.T) {
	dir := repository(t, map[string]string{
		"go.mod":                 module,
		"cmd/web/main.go":        "package main\n\nfunc main() { println(\"/healthz\") }\n",
		"cmd/web/main_test.go":   "package main\n\nimport \"testing\"\n\nfunc TestIt(*testing.T) {}\n",
		"internal/testdata/x.go": "package main\n",
	})
	in(t, dir, "checkout", "-q", "-b", "broken")
	if err := os.WriteFile(filepath.Join(dir, "cmd", "web", "bad.go"), []byte("package main\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	commit(t, dir, "Break it")
	in(t, dir, "checkout", "-q", "trunk")
	before := in(t, dir, "for-each-ref")

	s, err := own(t.Context(), Options{Repo: dir, Bad: "broken"}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if s.Service != "my-shop-v2" || s.Project.Repositories[0].Main != "./cmd/web" || s.Project.Environments[0].Gate.Tests != "passed" {
		t.Errorf("%+v", s.Project)
	}
	if err := s.Project.Validate(); err != nil {
		t.Error(err)
	}
	if s.Bad.Title != "Break it" || s.Bad.Head != in(t, dir, "rev-parse", "broken") {
		t.Errorf("%+v", s.Bad)
	}
	if r, err := s.Visit(t.Context(), 3, "http://x"); err != nil || r.URL.Path != "/healthz" || r.Header.Get("X-User") == "" {
		t.Errorf("%v %v", r, err)
	}
	if after := in(t, dir, "for-each-ref"); after != before {
		t.Errorf("the original was changed:\n%s\nit was\n%s", after, before)
	}
	// The mark compiles, and is well formed.
	bare := s.Project.Repositories[0].URL
	tree := filepath.Join(t.TempDir(), "tree")
	in(t, bare, "worktree", "add", "-q", "--detach", tree, s.Good.Head)
	build := exec.CommandContext(t.Context(), "go", "vet", "./...")
	build.Dir, build.Env = tree, append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	if out, err := build.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), "gofmt", "-l", tree).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("gofmt: %v %s", err, out)
	}
}

func TestOwnRepositoryRefusals(t *testing.T) {
	two := repository(t, map[string]string{"go.mod": module, "a/main.go": "package main\n\nfunc main() {}\n", "b/main.go": "package main\n\nfunc main() {}\n"})
	tests := []struct {
		name    string
		options Options
		want    string
	}{
		{"two programs", Options{Repo: two}, "./a, ./b"},
		{"a bad ref that is none", Options{Repo: two, Main: "./a", Bad: "nothing"}, "--bad"},
		{"a bad ref that is merged", Options{Repo: two, Main: "./a", Bad: "trunk"}, "nothing to merge"},
		{"no such folder", Options{Repo: two, Main: "./c"}, "no folder"},
		{"a folder outside", Options{Repo: two, Main: "../c"}, "within the repository"},
		{"no repository", Options{Repo: t.TempDir()}, "repository"},
		{"an option", Options{Repo: "--upload-pack=x"}, "repository"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := own(t.Context(), test.options, t.TempDir()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestOwnLibrary(t *testing.T) {
	dir := repository(t, map[string]string{"go.mod": module, "lib.go": "package lib\n\nfunc F() {}\n"})
	s, err := own(t.Context(), Options{Repo: dir}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if s.Project.Repositories[0].Main != "" || s.Project.Environments[0].Gate.Tests != "" {
		t.Errorf("%+v", s.Project)
	}
	if text := in(t, s.Project.Repositories[0].URL, "show", s.Good.Head+":lemnis_demo_first.go"); !strings.HasPrefix(text, "package lib\n") {
		t.Errorf("%s", text)
	}
}

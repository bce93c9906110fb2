package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/lap"
)

// own makes a copy of the user's repository the subject. The original is only read. On the copy the demo makes a branch with
// a harmless commit, since there has to be something to deliver; the second change is the user's bad ref, or one more such commit.
func own(ctx context.Context, o Options, dir string) (lap.Subject, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return lap.Subject{}, err
	}
	source := o.Repo
	if _, err := os.Stat(source); err == nil {
		if source, err = filepath.Abs(source); err != nil {
			return lap.Subject{}, err
		}
	}
	name := serviceName(source)
	bare := filepath.Join(dir, name+".git")
	if _, err := gitWith(ctx, nil, "clone", "--quiet", "--bare", "--no-hardlinks", "--", source, bare); err != nil {
		return lap.Subject{}, err
	}
	head, err := gitOutput(ctx, bare, "rev-parse", "--verify", "HEAD^{commit}")
	if err != nil {
		return lap.Subject{}, fmt.Errorf("it has no commit yet: %w", err)
	}
	for _, args := range [][]string{{"update-ref", "refs/heads/main", head}, {"symbolic-ref", "HEAD", "refs/heads/main"}} {
		if _, err := gitOutput(ctx, bare, args...); err != nil {
			return lap.Subject{}, err
		}
	}
	folder, err := mainFolder(ctx, bare, o.Main)
	if err != nil {
		return lap.Subject{}, err
	}
	// A library's main package is left for the pipeline to miss: its change is tested and merged all the same.
	main := ""
	if o.Main != "" || hasProgram(ctx, bare, head, folder) {
		main = "./" + folder
	}
	good, err := mark(ctx, bare, head, folder, "first")
	if err != nil {
		return lap.Subject{}, err
	}
	s := lap.Subject{
		Service: name, Project: project(name, bare, main),
		Feedback: []lap.Voice{
			{User: "ada@example.org", Text: "It is broken, I got an error again.", Rating: 2},
			{User: "ben@example.org", Text: "An error when I opened the page. It fails.", Rating: 1},
			{User: "cleo@example.org", Text: "Something is wrong, an error.", Rating: 2},
		},
		Wish: "Something new",
		Good: lap.Change{ID: name + "-1", Branch: markBranch("first"), Head: good, Title: "A mark of the demo", Author: "ann"},
		Bad:  lap.Change{ID: name + "-2", Author: "bo"},
	}
	where := cmp.Or(o.Path, healthPath(ctx, bare))
	s.Visit = func(ctx context.Context, n uint64, base string) (*http.Request, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+where, http.NoBody)
		if err == nil {
			r.Header.Set("X-User", fmt.Sprintf("user-%d", n%shoppers))
		}
		return r, err
	}
	hasTests := runGit(ctx, bare, "grep", "-q", "^func Test", head, "--", "*_test.go") == nil
	for i := range s.Project.Environments {
		e := &s.Project.Environments[i]
		if hasTests {
			e.Gate.Tests = "passed"
		}
		// What a service of somebody else's answers with is theirs to choose.
		e.Runtime.Paths, e.Runtime.Headers = []string{where}, []string{"Content-Type"}
	}
	err = bad(ctx, o, source, bare, head, folder, &s)
	return s, err
}

func runGit(ctx context.Context, repository string, args ...string) error {
	_, err := gitOutput(ctx, repository, args...)
	return err
}

// bad fills in the second change.
func bad(ctx context.Context, o Options, source, bare, head, folder string, s *lap.Subject) (err error) {
	if o.Bad == "" {
		s.Bad.Branch, s.Bad.Title = markBranch("second"), "Another mark of the demo"
		s.Bad.Head, err = mark(ctx, bare, head, folder, "second")
		return err
	}
	commit, err := gitOutput(ctx, source, "rev-parse", "--verify", o.Bad+"^{commit}")
	if err != nil {
		if commit, err = gitOutput(ctx, bare, "rev-parse", "--verify", o.Bad+"^{commit}"); err != nil {
			return fmt.Errorf("--bad %q names no commit: %w", o.Bad, err)
		}
	}
	if runGit(ctx, bare, "cat-file", "-e", commit) != nil {
		// It is on no branch that a clone brings along: a remote's, perhaps.
		if err := runGit(ctx, bare, "fetch", "--quiet", source, o.Bad); err != nil {
			return fmt.Errorf("--bad %q: %w", o.Bad, err)
		}
	}
	if runGit(ctx, bare, "merge-base", "--is-ancestor", commit, head) == nil {
		return fmt.Errorf("--bad %q is part of the main branch already: there is nothing to merge", o.Bad)
	}
	s.Bad.Branch, s.Bad.Head = "lemnis-demo-bad", commit
	if s.Bad.Title, err = gitOutput(ctx, bare, "log", "-1", "--format=%s", commit); err != nil {
		return err
	}
	return runGit(ctx, bare, "update-ref", "refs/heads/"+s.Bad.Branch, commit)
}

// serviceName makes a name that fits a project, a service and a registry out of a path or a URL.
func serviceName(source string) string {
	name := strings.ToLower(strings.TrimSuffix(path.Base(strings.TrimRight(filepath.ToSlash(source), "/")), ".git"))
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, name)
	for strings.Contains(name, "--") {
		name = strings.ReplaceAll(name, "--", "-")
	}
	return cmp.Or(strings.Trim(name[:min(len(name), 40)], "-"), "service")
}

// mainFolder is the folder of the main package, "." or relative to the root.
func mainFolder(ctx context.Context, bare, main string) (string, error) {
	if main != "" {
		folder := path.Clean(strings.TrimPrefix(main, "./"))
		if path.IsAbs(folder) || strings.HasPrefix(folder, "..") {
			return "", fmt.Errorf("--main %q: write the package's folder within the repository, like ./cmd/api", main)
		}
		return folder, nil
	}
	listed, err := gitOutput(ctx, bare, "grep", "-l", "-E", "^package main( |$)", "HEAD", "--", "*.go", ":!*_test.go")
	if err != nil {
		return ".", nil //nolint:nilerr // none: a library is merged all the same, and the lap says that it is a partial one
	}
	var folders []string
	for file := range strings.SplitSeq(listed, "\n") {
		folder := path.Dir(strings.TrimPrefix(file, "HEAD:"))
		hidden := strings.HasPrefix(folder, "_") || strings.Contains(folder, "/_") || strings.Contains("/"+folder+"/", "/testdata/")
		if !hidden && !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	switch len(folders) {
	case 0:
		return ".", nil
	case 1:
		return folders[0], nil
	}
	slices.Sort(folders)
	return "", errors.New("it has several programs; say which by --main: ./" + strings.Join(folders, ", ./"))
}

// healthPath guesses the address that answers 2xx; --path says it better.
func healthPath(ctx context.Context, bare string) string {
	for _, candidate := range []string{"/healthz", "/health", "/readyz", "/ping"} {
		if runGit(ctx, bare, "grep", "-q", "-F", candidate+`"`, "HEAD", "--", "*.go") == nil {
			return candidate
		}
	}
	return "/"
}

func markBranch(which string) string { return "lemnis-demo-" + which }

// mark commits a file to a branch that changes the program and does no harm.
func mark(ctx context.Context, bare, parent, folder, which string) (string, error) {
	pkg := "main"
	if listed, err := gitOutput(ctx, bare, "ls-tree", "--name-only", parent, "--", folder+"/"); folder != "." && (err != nil || listed == "") {
		return "", fmt.Errorf("it has no folder %q", folder)
	}
	if !hasProgram(ctx, bare, parent, folder) {
		var err error
		if pkg, err = packageOf(ctx, bare, parent, folder); err != nil {
			return "", err
		}
	}
	title := strings.ToUpper(which[:1]) + which[1:]
	content := fmt.Sprintf(`package %s

// lemnisDemo%s is a mark that `+"`lemnis demo`"+` made in its own copy of the repository, so that there is a change to deliver.
var lemnisDemo%s = []string{"lemnis demo"}

func init() { lemnisDemo%s = append(lemnisDemo%s, %q) }
`, pkg, title, title, title, title, which)
	now := time.Now()
	message := "A mark of the demo: " + which + "\n"
	var b strings.Builder
	fmt.Fprintf(&b, "commit refs/heads/%s\n", markBranch(which))
	for _, role := range []string{"author", "committer"} {
		fmt.Fprintf(&b, "%s Lemnis demo <demo@lemnis.invalid> %d +0000\n", role, now.Unix())
	}
	fmt.Fprintf(&b, "data %d\n%s\nfrom %s\nM 100644 inline %s\ndata %d\n%s\n", len(message), message, parent,
		path.Join(folder, "lemnis_demo_"+which+".go"), len(content), content)
	if _, err := gitWith(ctx, strings.NewReader(b.String()), "-C", bare, "fast-import", "--quiet", "--date-format=raw"); err != nil {
		return "", err
	}
	return gitOutput(ctx, bare, "rev-parse", "--verify", "refs/heads/"+markBranch(which))
}

// hasProgram reports whether the package in a folder is a main package.
func hasProgram(ctx context.Context, bare, commit, folder string) bool {
	return runGit(ctx, bare, "grep", "-q", "-E", "^package main( |$)", commit, "--", ":(glob)"+path.Join(folder, "*.go"), ":!*_test.go") == nil
}

// packageOf reads the name of the package in a folder of a library.
func packageOf(ctx context.Context, bare, commit, folder string) (string, error) {
	found, err := gitOutput(ctx, bare, "grep", "-h", "-E", "^package [a-z]", commit, "--", ":(glob)"+path.Join(folder, "*.go"), ":!*_test.go")
	if err != nil {
		return "", fmt.Errorf("it has no Go package in %q", folder)
	}
	first, _, _ := strings.Cut(found, "\n")
	return strings.Fields(first)[1], nil
}

// fault is the drill for a second change that is not bad by itself.
const fault = 0.3 // of its requests

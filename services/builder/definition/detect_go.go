package definition

import (
	"errors"
	"fmt"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

const mostEntries = 100_000 // of a checkout that are looked at

// detectGo takes a module, or a workspace of modules. All is compiled and tested, and the one main package is packaged.
func detectGo(tree fs.FS) (steps []Step, p *Package, found []string, err error) {
	var all string // that the go command is told to build and test
	switch first(tree, "go.work", "go.mod") {
	case "":
		return nil, nil, nil, nil
	case "go.work":
		all, found = "work", []string{"go.work: a workspace of Go modules"}
	default:
		all, found = "./...", []string{"go.mod: a Go module"}
	}
	mains, err := mainPackages(tree)
	if err != nil {
		return nil, nil, nil, err
	}
	goEnv := map[string]string{"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
	steps = []Step{
		{Name: "compile", Run: "go build -trimpath " + all, Environment: goEnv, Network: true},
		{Name: "test", Run: "go test -json -count=1 -coverprofile=cover.out " + all + " > tests.json", Environment: goEnv, Network: true,
			Reports: Reports{Tests: []string{"tests.json"}, Coverage: []string{"cover.out"}}},
	}
	switch len(mains) {
	case 0:
		return steps, nil, append(found, "no main package: a library, nothing is packaged"), nil
	case 1:
		out := path.Join("bin", path.Base(mains[0]))
		if mains[0] == "." {
			out = "bin/app"
		}
		steps = append(steps, Step{Name: "package", Environment: goEnv, Network: true, Outputs: []string{out},
			Run: fmt.Sprintf("go build -trimpath -ldflags='-s -w' -o %s %s", out, relative(mains[0]))})
		return steps, &Package{Executable: out}, append(found, relative(mains[0])+": the main package"), nil
	}
	return steps, nil, append(found, "several main packages: "+strings.Join(mains[:min(len(mains), 10)], ", ")+"; name one under package to package it"), nil
}

func relative(dir string) string {
	if dir == "." {
		return "."
	}
	return "./" + dir
}

// mainPackages are the folders of main packages that the go command would build, by their package clauses.
func mainPackages(tree fs.FS) ([]string, error) {
	var mains []string
	entries := 0
	err := fs.WalkDir(tree, ".", func(at string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entries++; entries > mostEntries {
			return fmt.Errorf("more than %d files", mostEntries)
		}
		name := entry.Name()
		if entry.IsDir() {
			if at != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "vendor" || name == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		dir := path.Dir(at)
		if !entry.Type().IsRegular() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "_") || strings.HasPrefix(name, ".") || slices.Contains(mains, dir) {
			return nil
		}
		is, err := isMain(tree, at)
		if is {
			mains = append(mains, dir)
		}
		return err
	})
	return mains, err
}

// isMain reads a file's package clause. One that the build leaves out everywhere ("//go:build ignore") is of no package.
func isMain(tree fs.FS, at string) (bool, error) {
	f, err := tree.Open(at)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	head, err := io.ReadAll(io.LimitReader(f, 64<<10)) // of a longer file the clause is in here, but for a comment of that length
	if err != nil {
		return false, err
	}
	file, err := parser.ParseFile(token.NewFileSet(), at, head, parser.PackageClauseOnly|parser.ParseComments)
	if err != nil {
		if file == nil {
			return false, errors.Join(fmt.Errorf("read %s", at), err)
		}
		return false, nil // no Go: the compile step will say so
	}
	for _, group := range file.Comments {
		for _, c := range group.List {
			if c.Pos() < file.Package && constraint.IsGoBuild(c.Text) {
				if x, err := constraint.Parse(c.Text); err == nil && !x.Eval(func(tag string) bool { return tag != "ignore" }) {
					return false, nil
				}
			}
		}
	}
	return file.Name.Name == "main", nil
}

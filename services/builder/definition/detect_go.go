package definition

import (
	"bytes"
	"errors"
	"fmt"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

const mostEntries = 100_000 // of a checkout that are looked at

// detectGo takes a module, or a workspace of modules. All is compiled and tested, and the named or only main package is packaged.
func detectGo(tree fs.FS, main string) (steps []Step, p *Package, found []string, err error) {
	var all string // that the go command is told to build and test
	module := ""
	switch first(tree, "go.work", "go.mod") {
	case "":
		return nil, nil, nil, nil
	case "go.work":
		all, found = "work", []string{"go.work: a workspace of Go modules"}
	default:
		all, found = "./...", []string{"go.mod: a Go module"}
		text, readErr := read(tree, "go.mod")
		if readErr != nil {
			return nil, nil, nil, readErr
		}
		if m := moduleLine.FindStringSubmatch(text); m != nil {
			module = m[1]
		}
	}
	mains, asks, err := goSource(tree)
	if err != nil {
		return nil, nil, nil, err
	}
	goEnv := map[string]string{"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
	trim := ""
	if !asks {
		trim = " -trimpath" // as the rest is built: the standard library is compiled once, not twice
	}
	// Of a single main package the go command would leave the program in the checkout.
	steps = []Step{
		{Name: "compile", Run: "go build -trimpath -o /dev/null " + all, Environment: goEnv, Network: true},
		{Name: "test", Run: "go test -json -count=1" + trim + " -coverprofile=cover.out " + all + " > tests.json", Environment: goEnv, Network: true,
			Reports: Reports{Tests: []string{"tests.json"}, Coverage: []string{"cover.out"}}},
	}
	if main != "" {
		named := path.Clean(main) // also "./." and "./cmd/api/"
		at := slices.IndexFunc(mains, func(dir string) bool { return named == dir || named == path.Join(module, dir) })
		if at < 0 {
			return nil, nil, nil, fmt.Errorf("%w: %s; there is: %s", ErrNoMain, main, some(mains))
		}
		mains = mains[at : at+1]
	}
	switch len(mains) {
	case 0:
		return steps, nil, append(found, "no main package: a library, nothing is packaged"), nil
	case 1:
		out := path.Join("bin", programName(path.Join(module, mains[0])))
		steps = append(steps, Step{Name: "package", Environment: goEnv, Network: true, Outputs: []string{out},
			Run: fmt.Sprintf("go build -trimpath -ldflags='-s -w' -o %s %s", out, relative(mains[0]))})
		return steps, &Package{Executable: out}, append(found, relative(mains[0])+": the main package"), nil
	}
	return steps, nil, append(found, "several main packages: "+some(mains)+"; name one under package to package it"), nil
}

var (
	moduleLine  = regexp.MustCompile(`(?m)^module\s+"?([^\s"]+)`)
	versionForm = regexp.MustCompile(`^v[0-9]+$`)
	programForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
)

// programName is what the go command calls the program of an import path.
func programName(importPath string) string {
	name := path.Base(importPath)
	if versionForm.MatchString(name) {
		name = path.Base(path.Dir(importPath))
	}
	if !programForm.MatchString(name) {
		return "app"
	}
	return name
}

func some(mains []string) string {
	if len(mains) == 0 {
		return "none"
	}
	names := make([]string, 0, len(mains))
	for _, dir := range mains[:min(len(mains), 10)] {
		names = append(names, relative(dir))
	}
	return strings.Join(names, ", ")
}

func relative(dir string) string {
	if dir == "." {
		return "."
	}
	return "./" + dir
}

// goSource finds the folders of main packages that the go command would build, by their package clauses, and whether code
// asks where its own source lies, as tests do that find files beside themselves: -trimpath tells them a path that is not there.
func goSource(tree fs.FS) (mains []string, asks bool, err error) {
	entries := 0
	err = fs.WalkDir(tree, ".", func(at string, entry fs.DirEntry, err error) error {
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
		if !asks && entry.Type().IsRegular() && strings.HasSuffix(name, ".go") {
			text, err := readCode(tree, at)
			if err != nil {
				return err
			}
			asks = bytes.Contains(text, []byte("runtime.Caller"))
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
	return mains, asks, err
}

// readCode reads the beginning of a file; what people write is not longer.
func readCode(tree fs.FS, at string) ([]byte, error) {
	f, err := tree.Open(at)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, mostFile))
}

// isMain reads a file's package clause. One that the build leaves out everywhere ("//go:build ignore") is of no package.
func isMain(tree fs.FS, at string) (bool, error) {
	head, err := readCode(tree, at)
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

package definition

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// ErrNothing says that a checkout holds no kind of project that is known.
var ErrNothing = errors.New("no .lemnis.yaml, and nothing that says how to build it: no go.mod, go.work, Cargo.toml, package.json, pyproject.toml, setup.py, requirements.txt, Makefile or Dockerfile at its root")

// ErrNoMain says that the Go package that was named is none that makes a program.
var ErrNoMain = errors.New("no such main package")

// language is a kind of project that is told by files at the root of a checkout.
type language struct {
	name   string
	detect func(tree fs.FS, main string) (steps []Step, p *Package, found []string, err error) // no steps: it is none
}

var languages = []language{{"go", detectGo}, {"rust", always(detectRust)}, {"node", always(detectNode)}, {"python", always(detectPython)}}

func always(detect func(fs.FS) ([]Step, *Package, []string, error)) func(fs.FS, string) ([]Step, *Package, []string, error) {
	return func(tree fs.FS, _ string) ([]Step, *Package, []string, error) { return detect(tree) }
}

// Detect finds a pipeline by what a checkout holds: its languages, else its Makefile, and a Dockerfile when nothing else is
// packaged. main is the Go package to package, as "./cmd/api" or by its import path; empty: the only main package. found says
// which files told what. The error is [ErrNothing], [ErrNoMain], or of reading.
func Detect(tree fs.FS, main string) (p Pipeline, found []string, err error) {
	var kinds []string
	for _, l := range languages {
		steps, pack, why, err := l.detect(tree, main)
		if err != nil {
			return Pipeline{}, nil, fmt.Errorf("look for a %s project: %w", l.name, err)
		}
		if len(steps) == 0 {
			continue
		}
		kinds, found = append(kinds, l.name), append(found, why...)
		if len(kinds) == 2 { // several: their steps are told apart
			for i := range p.Steps {
				p.Steps[i] = within(kinds[0], p.Steps[i])
			}
		}
		for i, s := range steps {
			if len(kinds) > 1 {
				s = within(l.name, s)
			}
			if i == 0 && s.Needs == nil {
				s.Needs = &[]string{} // languages do not wait for one another
			}
			p.Steps = append(p.Steps, s)
		}
		if p.Package == nil {
			p.Package = pack
		}
	}
	if len(p.Steps) == 0 {
		steps, why, err := detectMake(tree)
		if err != nil {
			return Pipeline{}, nil, fmt.Errorf("look for a Makefile: %w", err)
		}
		p.Steps, found = steps, append(found, why...)
	}
	if docker := first(tree, "Dockerfile", "Containerfile"); docker != "" && p.Package == nil {
		p.Package = &Package{Dockerfile: docker, Network: true} // as install steps have it: what it is made of comes from elsewhere
		found = append(found, docker+": packaged as an image")
		if len(p.Steps) == 0 {
			p.Steps = []Step{{Name: "check", Run: "test -s " + docker}}
		}
	}
	if len(p.Steps) == 0 {
		return Pipeline{}, nil, ErrNothing
	}
	if len(p.Steps) > 0 && p.Steps[0].Needs != nil && len(*p.Steps[0].Needs) == 0 {
		p.Steps[0].Needs = nil // the first needs nothing anyway
	}
	return p, found, nil
}

func within(language string, s Step) Step {
	s.Name = language + "-" + s.Name
	if s.Needs != nil {
		needs := make([]string, len(*s.Needs))
		for i, n := range *s.Needs {
			needs[i] = language + "-" + n
		}
		s.Needs = &needs
	}
	return s
}

// first is the first of the names that is a file at the root; empty when none is.
func first(tree fs.FS, names ...string) string {
	for _, name := range names {
		if info, err := fs.Stat(tree, name); err == nil && info.Mode().IsRegular() {
			return name
		}
	}
	return ""
}

// read reads a file at the root of a bounded size; empty when it is not there.
func read(tree fs.FS, name string) (string, error) {
	info, err := fs.Stat(tree, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > mostFile {
		return "", fmt.Errorf("%s is no file of at most %d bytes", name, mostFile)
	}
	text, err := fs.ReadFile(tree, name)
	return string(text), err
}

// detectMake takes the targets that are there of those that everybody names alike.
func detectMake(tree fs.FS) (steps []Step, found []string, err error) {
	name := first(tree, "GNUmakefile", "makefile", "Makefile")
	if name == "" {
		return nil, nil, nil
	}
	text, err := read(tree, name)
	if err != nil {
		return nil, nil, err
	}
	targets := map[string]bool{}
	for line := range strings.Lines(text) {
		target, rest, ok := strings.Cut(line, ":")
		if !ok || strings.HasPrefix(line, "\t") || strings.HasPrefix(rest, "=") || strings.ContainsAny(target, "#$=") {
			continue
		}
		for _, t := range strings.Fields(target) {
			targets[t] = true
		}
	}
	found = []string{name + ": a Makefile"}
	switch {
	case targets["build"]:
		steps = append(steps, Step{Name: "build", Run: "make build"})
	case targets["all"]:
		steps = append(steps, Step{Name: "build", Run: "make all"})
	default:
		steps = append(steps, Step{Name: "build", Run: "make"})
	}
	for _, t := range []string{"test", "check"} {
		if targets[t] {
			return append(steps, Step{Name: "test", Run: "make " + t}), found, nil
		}
	}
	return steps, append(found, name+" has no target test or check: nothing is tested"), nil
}

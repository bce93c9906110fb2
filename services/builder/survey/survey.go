// Package survey finds out what a change touches: the Go packages that it changes and those whose tests it may break, by what
// imports what; and the folders of which the project says that their changes touch nothing else.
package survey

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Everything overlaps with every other change.
const Everything = "*"

// Touched is what a change touches, by the folders of packages and lanes; a lane ends with a slash.
type Touched struct {
	Writes []string // what it changes
	Reads  []string // what those are made of whose tests it may break, Writes included
	Reason string   // why it touches everything
}

// Of surveys a change of some files, by the tree that it leads to. Lanes are folders.
func Of(tree fs.FS, files, lanes []string) (Touched, error) {
	g, err := read(tree)
	if err != nil {
		return Touched{}, err
	}
	writes := map[string]bool{}
	for _, file := range files {
		at, ok := g.owner(file, lanes)
		if !ok {
			return Touched{Writes: []string{Everything}, Reason: "nothing says what " + file + " is a part of"}, nil
		}
		writes[at] = true
	}
	reads := map[string]bool{}
	for at := range writes {
		reads[at] = true
	}
	for at := range g {
		made := g.made(at)
		if slices.ContainsFunc(sorted(made), func(p string) bool { return writes[p] }) {
			for p := range made {
				reads[p] = true
			}
		}
	}
	return Touched{Writes: sorted(writes), Reads: sorted(reads)}, nil
}

func sorted(set map[string]bool) []string {
	all := make([]string, 0, len(set))
	for s := range set {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

// graph holds what the Go packages of a tree import of each other, by their folders.
type graph map[string]*imports

type imports struct {
	code, tests []string // folders
}

// read reads the imports of all Go files. One that can not be parsed imports nothing: its tests will tell.
func read(tree fs.FS) (graph, error) {
	modules, found := map[string]string{}, map[string]*imports{}
	type raw struct{ dir, name string }
	var sources []raw
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		base := path.Base(name)
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (base == "vendor" || base == "testdata" || base == "node_modules" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")):
			return fs.SkipDir
		case !d.Type().IsRegular():
		case base == "go.mod":
			text, err := fs.ReadFile(tree, name)
			if err != nil {
				return err
			}
			if m := moduleOf(string(text)); m != "" {
				modules[m] = path.Dir(name)
			}
		case strings.HasSuffix(base, ".go"):
			sources = append(sources, raw{path.Dir(name), name})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, s := range sources {
		text, err := fs.ReadFile(tree, s.name)
		if err != nil {
			return nil, err
		}
		p := found[s.dir]
		if p == nil {
			p = &imports{}
			found[s.dir] = p
		}
		file, err := parser.ParseFile(token.NewFileSet(), s.name, text, parser.ImportsOnly)
		if err != nil || file == nil {
			continue
		}
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			dir, ours := folder(modules, name)
			if err != nil || !ours {
				continue
			}
			if strings.HasSuffix(s.name, "_test.go") {
				p.tests = append(p.tests, dir)
			} else {
				p.code = append(p.code, dir)
			}
		}
	}
	return found, nil
}

func moduleOf(mod string) string {
	for line := range strings.Lines(mod) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "module "); ok {
			name, _, _ = strings.Cut(name, "//")
			return strings.Trim(strings.TrimSpace(name), `"`)
		}
	}
	return ""
}

// folder is where the package of an import path lies, in the innermost module that it can be of.
func folder(modules map[string]string, name string) (string, bool) {
	for m := name; m != "." && m != "/"; m = path.Dir(m) {
		if at, ok := modules[m]; ok {
			return path.Join(at, strings.TrimPrefix(name[len(m):], "/")), true
		}
	}
	return "", false
}

// made lists what a package's tests are made of: itself, what its tests import, and what those are built from.
func (g graph) made(at string) map[string]bool {
	all := map[string]bool{}
	var add func(string)
	add = func(p string) {
		if all[p] {
			return
		}
		all[p] = true
		if in := g[p]; in != nil {
			for _, q := range in.code {
				add(q)
			}
		}
	}
	add(at)
	for _, q := range g[at].tests {
		add(q)
	}
	return all
}

// owner is what a file is a part of.
func (g graph) owner(file string, lanes []string) (string, bool) {
	dir := path.Dir(file)
	switch path.Base(file) {
	case "go.mod", "go.sum", "go.work", "go.work.sum", ".lemnis.yaml", ".lemnis.yml":
		return "", false
	}
	if strings.HasSuffix(file, ".go") && !strings.Contains("/"+dir+"/", "/vendor/") && !strings.Contains("/"+dir+"/", "/testdata/") {
		return dir, true
	}
	lane := ""
	for _, l := range lanes {
		if (dir == l || strings.HasPrefix(dir, l+"/")) && len(l) > len(lane) {
			lane = l
		}
	}
	if lane != "" {
		return lane + "/", true
	}
	// What lies beside or below a package's files is read by its tests, or embedded; at the root it may be anything.
	for d := dir; d != "." && path.Base(d) != "vendor"; d = path.Dir(d) {
		if g[d] != nil {
			return d, true
		}
	}
	return "", false
}

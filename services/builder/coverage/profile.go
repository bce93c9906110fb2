package coverage

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// Profile is what the tests of a project ran. Its zero value has nothing in it.
type Profile struct {
	files map[place]map[span]part
	parts int

	relative bool     // names are from some folder: not Go's import paths, which are the same in every report
	sources  []string // while it is read: folders that the tool says its names are of
}

// place is a file: its name as the tool wrote it, or its path in the tree once it was located.
type place struct {
	name    string
	sources string // folders that the tool says its names are of, and that of its report, see [place.in]
}

// Most is how many lines or blocks of one step's reports are counted.
const Most = 2_000_000

// span is where a part stands: a block of Go, or a line of what other tools count.
type span struct{ fromLine, fromColumn, toLine, toColumn int }

// part is counted as a whole.
type part struct {
	weight int // statements of a block, 1 for a line
	ran    bool
}

// Range is lines of a file, from 1, both ends included.
type Range struct{ From, To int }

// add notes a part. One that several reports have counts once, and ran when it did in one of them.
func (p *Profile) add(file place, s span, weight int, ran bool) {
	if p.files == nil {
		p.files = map[place]map[span]part{}
	}
	parts := p.files[file]
	if parts == nil {
		parts = map[span]part{}
		p.files[file] = parts
	}
	before := len(parts)
	parts[s] = part{weight: weight, ran: ran || parts[s].ran}
	p.parts += len(parts) - before
}

// Parts is how many lines or blocks there are.
func (p *Profile) Parts() int { return p.parts }

// Merge adds what another profile has.
func (p *Profile) Merge(other Profile) {
	for file, parts := range other.files {
		for s, one := range parts {
			p.add(file, s, one.weight, one.ran)
		}
	}
}

// Whole is the percentage that ran, 0 to 100, and of how much: statements of Go, lines of all else. 0 of 0 is not known.
func (p *Profile) Whole() (percent float64, of int) {
	ran := 0
	for _, parts := range p.files {
		for _, one := range parts {
			of += one.weight
			if one.ran {
				ran += one.weight
			}
		}
	}
	return percentage(ran, of), of
}

// Changed is the percentage of changed lines that ran, by path in the tree, and of how many: lines that can not run, such
// as comments, do not count. A line ran when any part of it did: the block that `if err != nil {` opens is judged by its
// own lines. The profile has to be located.
func (p *Profile) Changed(changes map[string][]Range) (percent float64, of int) {
	ran := 0
	for file, ranges := range changes {
		lines := map[int]bool{}
		for s, one := range p.files[place{name: file}] {
			if one.weight == 0 {
				continue
			}
			for _, r := range ranges {
				for n := max(s.fromLine, r.From); n <= min(s.toLine, r.To); n++ {
					lines[n] = lines[n] || one.ran
				}
			}
		}
		of += len(lines)
		for _, did := range lines {
			if did {
				ran++
			}
		}
	}
	return percentage(ran, of), of
}

// Located is the profile by paths in the tree. Tools name files by import path (Go), by absolute path, or from some folder
// (Cobertura, LCOV): from one that the report names, from the report's own or one around that; else a file is the longest end of such
// a name that the tree has. What it does not have, such as generated files, is left out.
func (p *Profile) Located(tree []string) Profile {
	t := grow(tree)
	var located Profile
	for name, parts := range p.files {
		file := t.find(name)
		if file == "" {
			continue
		}
		for s, one := range parts {
			located.add(place{name: file}, s, one.weight, one.ran)
		}
	}
	return located
}

// reported separates the folder of the report from those that it names.
const reported = "\x00"

// tree is what files are looked for in.
type tree struct {
	files   map[string]bool
	folders map[string]bool       // below the root
	tails   map[string]bool       // ends of the files' paths, without the folders before: most names that are no file's are none of these
	ends    map[string][][]string // by the folders that a report names: of each the ends that the tree has, the longest first
}

func grow(files []string) *tree {
	t := &tree{files: make(map[string]bool, len(files)), folders: map[string]bool{}, tails: map[string]bool{}, ends: map[string][][]string{}}
	for _, file := range files {
		t.files[file] = true
		for _, tail, more := strings.Cut(file, "/"); more; _, tail, more = strings.Cut(tail, "/") {
			t.tails[tail] = true
		}
		for folder := path.Dir(file); folder != "." && !t.folders[folder]; folder = path.Dir(folder) {
			t.folders[folder] = true
		}
	}
	return t
}

// find is a place's path in the tree; empty when the tree does not have it, or it is not told which of several it is.
func (t *tree) find(p place) string {
	name := path.Clean(slashed(p.name))
	named, folder, isReported := strings.Cut(p.sources, reported)
	if !path.IsAbs(name) && len(name) <= longestPath {
		found := ""
		for _, ends := range t.endsOf(named, name) {
			file := t.below(ends, name)
			if file != "" && found != "" && file != found {
				return ""
			}
			found = cmp.Or(file, found)
		}
		if found != "" {
			return found
		}
		for at := folder; isReported && at != "."; at = path.Dir(at) {
			if file := path.Join(at, name); t.files[file] {
				return file
			}
		}
	}
	return longest(name, t.files)
}

// endsOf looks the folders that a report names up, once for all its files, and those that are the same in the tree as one; none where the file is in
// no folder at all.
func (t *tree) endsOf(named, file string) [][]string {
	tail := file
	for up := true; up; {
		tail, up = strings.CutPrefix(tail, "../")
	}
	all, known := t.ends[named]
	switch {
	case !t.tails[tail] && (tail == file || !t.files[tail]):
		return nil
	case known:
		return all
	}
	first := map[string]bool{}
	for source := range strings.Lines(named) {
		var ends []string
		for end, more := path.Clean(slashed(strings.TrimSuffix(source, "\n"))), true; more; _, end, more = strings.Cut(end, "/") {
			if len(end) <= longestPath && t.folders[end] {
				ends = append(ends, end)
			}
		}
		if len(ends) > 0 && !first[ends[0]] { // the longest has the others
			first[ends[0]] = true
			all = append(all, ends)
		}
	}
	t.ends[named] = all
	return all
}

func (t *tree) below(folders []string, name string) string {
	for _, folder := range folders {
		if file := path.Join(folder, name); t.files[file] {
			return file
		}
	}
	return ""
}

// longestPath of a file in a tree, in bytes. Longer ends of names need not be looked up, each of which would be read as a whole for that.
const longestPath = 4096

// longest is the longest end of a name that a tree has.
func longest(name string, tree map[string]bool) string {
	for name != "" {
		if len(name) <= longestPath && tree[name] {
			return name
		}
		_, rest, more := strings.Cut(name, "/")
		if name = rest; !more {
			break
		}
	}
	return ""
}

func slashed(name string) string { return strings.ReplaceAll(name, `\`, "/") }

// Files lists the files, sorted.
func (p *Profile) Files() []string {
	var names []string
	for name := range p.files {
		names = append(names, name.name)
	}
	slices.Sort(names)
	return names
}

func percentage(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}

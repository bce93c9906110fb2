package coverage

import (
	"path"
	"slices"
	"strings"
)

// Profile is what the tests of a project ran. Its zero value has nothing in it.
type Profile struct {
	files map[string]map[span]part // by name as the tool wrote it, or by path in the tree once it was located
}

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
func (p *Profile) add(file string, s span, weight int, ran bool) {
	if p.files == nil {
		p.files = map[string]map[span]part{}
	}
	parts := p.files[file]
	if parts == nil {
		parts = map[span]part{}
		p.files[file] = parts
	}
	parts[s] = part{weight: weight, ran: ran || parts[s].ran}
}

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
		for s, one := range p.files[file] {
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
// (Cobertura, LCOV): a file is the longest end of such a name that the tree has. What it does not have, such as generated
// files, is left out.
func (p *Profile) Located(tree []string) Profile {
	known := make(map[string]bool, len(tree))
	for _, file := range tree {
		known[file] = true
	}
	var located Profile
	for name, parts := range p.files {
		file := path.Clean(strings.ReplaceAll(name, `\`, "/"))
		for !known[file] {
			_, rest, more := strings.Cut(file, "/")
			if file = rest; !more {
				break
			}
		}
		if !known[file] {
			continue
		}
		for s, one := range parts {
			located.add(file, s, one.weight, one.ran)
		}
	}
	return located
}

// Files lists the files, sorted.
func (p *Profile) Files() []string {
	var names []string
	for name := range p.files {
		names = append(names, name)
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

package coverage

import (
	"bufio"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/lemnis/lemnis/internal/lines"
)

var errMany = fmt.Errorf("more than %d lines or blocks", Most)

// Read reads a report of any of the formats, that lies in a folder of the tree. Errors name the line.
func Read(r io.Reader, folder string) (Profile, error) {
	p, err := read(r)
	if err != nil || !p.relative {
		return p, err
	}
	sources := strings.Join(p.sources, "\n") // one text for all files: a report may have as many of them as lines
	if folder = path.Clean(folder); folder != "." {
		sources += reported + folder
	}
	files := make(map[place]map[span]part, len(p.files))
	for file, parts := range p.files {
		if !path.IsAbs(slashed(file.name)) {
			file.sources = sources
		}
		files[file] = parts
	}
	p.files, p.sources = files, nil
	return p, nil
}

func read(r io.Reader) (Profile, error) {
	in := bufio.NewReaderSize(r, 4096)
	start, err := lines.Start(in)
	if err != nil {
		return Profile{}, err
	}
	switch {
	case strings.HasPrefix(start, "mode:"):
		return readGo(in)
	case strings.HasPrefix(start, "<"):
		return readCobertura(in)
	case strings.HasPrefix(start, "TN:"), strings.HasPrefix(start, "SF:"):
		return readLCOV(in)
	case start == "":
		return Profile{}, errors.New("the coverage report is empty")
	default:
		return Profile{}, fmt.Errorf("line 1: neither a Go cover profile (mode: …), nor Cobertura (XML), nor LCOV (TN:, SF:): %q", start)
	}
}

// ReadFile is [Read] of a file.
func ReadFile(name string) (Profile, error) {
	f, err := os.Open(name)
	if err != nil {
		return Profile{}, err
	}
	defer func() { _ = f.Close() }()
	p, err := Read(f, ".")
	if err != nil {
		return Profile{}, fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	return p, nil
}

// readGo reads `file.go:1.2,3.4 statements count` behind `mode: set`.
func readGo(in io.Reader) (p Profile, err error) {
	err = lines.Each(in, func(line string) error {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "mode:") { // profiles put together have several
			return nil
		}
		at := strings.LastIndexByte(line, ':')
		if at < 1 {
			return fmt.Errorf("no file in %q", line)
		}
		var s span
		var statements, count int
		if _, err := fmt.Sscanf(line[at+1:], "%d.%d,%d.%d %d %d", &s.fromLine, &s.fromColumn, &s.toLine, &s.toColumn, &statements, &count); err != nil {
			return fmt.Errorf("want file:line.column,line.column statements count, got %q", line)
		}
		if !s.valid() || statements < 0 || statements > longestFile {
			return fmt.Errorf("no block of a file: %q", line)
		}
		if p.add(place{name: line[:at]}, s, statements, count > 0); p.parts > Most {
			return errMany
		}
		return nil
	})
	return p, err
}

// Of a report's names of folders, in which each of its files is looked for: how many are taken, and how many bytes in all. Modules whose reports
// are put together have one each; files of those beyond are found as without.
const (
	mostSources    = 1000
	longestSources = 128 << 10
)

// longestFile bounds line numbers, so that a report can not make the reader count for ever.
const longestFile = 10_000_000

func (s span) valid() bool {
	return s.fromLine >= 1 && s.toLine >= s.fromLine && s.toLine <= longestFile
}

func oneLine(n int) span { return span{fromLine: n, toLine: n} }

// readLCOV reads the records SF (a file), DA (line,hits) and end_of_record; functions and branches are passed over.
func readLCOV(in io.Reader) (p Profile, err error) {
	p.relative = true
	file := ""
	err = lines.Each(in, func(line string) error {
		record, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch record {
		case "SF":
			if file = value; file == "" {
				return errors.New("SF without a file")
			}
		case "end_of_record":
			file = ""
		case "DA":
			number, rest, _ := strings.Cut(value, ",")
			hits, _, _ := strings.Cut(rest, ",") // a checksum may follow
			n, errN := strconv.Atoi(number)
			count, errC := strconv.ParseFloat(hits, 64) // some tools write 1e+06
			switch {
			case file == "":
				return errors.New("DA before SF: of which file?")
			case errN != nil || errC != nil || !oneLine(n).valid():
				return fmt.Errorf("want DA:line,hits, got %q", line)
			}
			if p.add(place{name: file}, oneLine(n), 1, count > 0); p.parts > Most {
				return errMany
			}
		}
		return nil
	})
	return p, err
}

// readCobertura reads the lines of each class.
func readCobertura(in io.Reader) (p Profile, err error) {
	xmls := lines.XML(in)
	p.relative = true
	file, root := "", true
	sources, named := map[string]bool{}, 0
	fail := func(format string, args ...any) (Profile, error) {
		line, _ := xmls.InputPos()
		return Profile{}, fmt.Errorf("line %d: %w", line, fmt.Errorf(format, args...))
	}
	for {
		token, err := xmls.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fail("%w", err)
		}
		element, starts := token.(xml.StartElement)
		if !starts {
			continue
		}
		if root && element.Name.Local != "coverage" {
			return fail("the root of Cobertura's XML is <coverage>, not <%s>", element.Name.Local)
		}
		root = false
		switch element.Name.Local {
		case "source":
			var source string
			if err := xmls.DecodeElement(&source, &element); err != nil {
				return fail("%w", err)
			}
			source = strings.NewReplacer("\n", " ", reported, " ").Replace(strings.TrimSpace(source))
			if source == "" || sources[source] || len(sources) == mostSources || named+len(source) > longestSources {
				continue
			}
			sources[source], named = true, named+len(source)
			p.sources = append(p.sources, source)
		case "class":
			if file = attribute(element, "filename"); file == "" {
				return fail("a class without filename")
			}
		case "line":
			n, errN := strconv.Atoi(attribute(element, "number"))
			hits, errH := strconv.ParseFloat(attribute(element, "hits"), 64)
			switch {
			case file == "":
				return fail("a line outside of a class")
			case errN != nil || errH != nil || !oneLine(n).valid():
				return fail("number=%q hits=%q", attribute(element, "number"), attribute(element, "hits"))
			}
			if p.add(place{name: file}, oneLine(n), 1, hits > 0); p.parts > Most {
				return fail("%w", errMany)
			}
		}
	}
	if root {
		return fail("no <coverage>")
	}
	return p, nil
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
)

// event is one line of `go test -json` (see `go doc test2json`), and of the build output that go test mixes in.
type event struct {
	Action      string
	Package     string
	Test        string
	Elapsed     float64 // seconds
	Output      string
	ImportPath  string // of build-output and build-fail
	FailedBuild string // of a package's fail: the import path that did not build
}

type test struct {
	verdict string // pass, fail, skip; empty while it runs
	output  strings.Builder
}

type pkg struct {
	tests  map[string]*test
	order  []string
	output strings.Builder // what no test printed: panics, TestMain, the exit status
	cached bool
}

type report struct {
	w                       io.Writer
	pkgs                    map[string]*pkg
	builds                  map[string]*strings.Builder
	skips                   []string
	bad                     []string // packages
	empty                   int      // packages without tests
	passed, failed, skipped int
}

func newReport(w io.Writer) *report {
	return &report{w: w, pkgs: map[string]*pkg{}, builds: map[string]*strings.Builder{}}
}

// read consumes the whole stream. A line that is no JSON is passed on: go test writes some of its own errors bare.
func (r *report) read(in io.Reader) error {
	br := bufio.NewReader(in)
	for {
		line, err := br.ReadString('\n')
		if line != "" {
			var e event
			if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &e) != nil {
				fmt.Fprint(r.w, line)
			} else {
				r.add(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read test output: %w", err)
		}
	}
}

func (r *report) add(e event) {
	switch e.Action {
	case "build-output":
		b := r.builds[e.ImportPath]
		if b == nil {
			b = &strings.Builder{}
			r.builds[e.ImportPath] = b
		}
		b.WriteString(e.Output)
		return
	case "build-fail":
		return // told by the fail of each package that needed it
	}
	if e.Package == "" {
		return
	}
	p := r.pkgs[e.Package]
	if p == nil {
		p = &pkg{tests: map[string]*test{}}
		r.pkgs[e.Package] = p
	}
	if e.Test == "" {
		r.addToPackage(p, e)
		return
	}
	t := p.tests[e.Test]
	if t == nil {
		t = &test{}
		p.tests[e.Test] = t
		p.order = append(p.order, e.Test)
	}
	switch e.Action {
	case "output":
		t.output.WriteString(e.Output)
	case "pass", "fail", "skip":
		t.verdict = e.Action
	}
}

func (r *report) addToPackage(p *pkg, e event) {
	switch e.Action {
	case "output":
		p.output.WriteString(e.Output)
		if strings.Contains(e.Output, "\t(cached)") {
			p.cached = true
		}
	case "pass", "fail", "skip":
		r.finish(e, p)
		delete(r.pkgs, e.Package)
	}
}

// finish prints a package's line and, where something failed, all that its failed and unfinished tests said.
func (r *report) finish(e event, p *pkg) {
	var passed, failed, skipped int
	var broken []string
	for _, name := range p.order {
		t := p.tests[name]
		switch t.verdict {
		case "skip":
			skipped++
			r.skips = append(r.skips, fmt.Sprintf("%s %s: %s", short(e.Package), name, reason(t.output.String())))
		case "pass":
			if !p.isParent(name) {
				passed++
			}
		default: // failed, or never came to an end
			broken = append(broken, name)
			if !p.hasBrokenChild(name) {
				failed++
			}
		}
	}
	if e.Action == "fail" && failed == 0 {
		failed = 1 // the package itself: it did not build, or it ended outside a test
	}
	r.passed, r.failed, r.skipped = r.passed+passed, r.failed+failed, r.skipped+skipped
	if e.Action != "fail" {
		if len(p.order) == 0 {
			r.empty++
			return
		}
		line := fmt.Sprintf("ok    %s  %d passed", short(e.Package), passed)
		if skipped > 0 {
			line += fmt.Sprintf(", %d SKIPPED", skipped)
		}
		if p.cached {
			line += "  (cached)"
		} else {
			line += fmt.Sprintf("  %.1fs", e.Elapsed)
		}
		fmt.Fprintln(r.w, line)
		return
	}
	r.bad = append(r.bad, short(e.Package))
	fmt.Fprintf(r.w, "FAIL  %s  %.1fs\n", short(e.Package), e.Elapsed)
	if b := r.builds[e.FailedBuild]; b != nil {
		fmt.Fprint(r.w, indent(b.String()))
	}
	for _, name := range broken {
		fmt.Fprint(r.w, indent(p.tests[name].output.String()))
	}
	fmt.Fprint(r.w, indent(p.output.String()))
}

func (p *pkg) isParent(name string) bool {
	for other := range p.tests {
		if strings.HasPrefix(other, name+"/") {
			return true
		}
	}
	return false
}

// hasBrokenChild tells a parent that failed through a subtest, which is counted itself, from one that failed alone.
func (p *pkg) hasBrokenChild(name string) bool {
	for other, t := range p.tests {
		if strings.HasPrefix(other, name+"/") && t.verdict != "pass" && t.verdict != "skip" {
			return true
		}
	}
	return false
}

// close prints the end of the report and says whether all is well.
func (r *report) close() bool {
	unfinished := make([]string, 0, len(r.pkgs))
	for name := range r.pkgs {
		unfinished = append(unfinished, short(name))
	}
	sort.Strings(unfinished)
	for _, name := range unfinished {
		r.failed++
		r.bad = append(r.bad, name)
		fmt.Fprintf(r.w, "FAIL  %s  did not finish\n", name)
	}
	if r.empty > 0 {
		fmt.Fprintf(r.w, "      %d packages without tests\n", r.empty)
	}
	if len(r.skips) > 0 {
		sort.Strings(r.skips)
		fmt.Fprintf(r.w, "\nSKIPPED, so not shown to work here (%d):\n", len(r.skips))
		for _, s := range r.skips {
			fmt.Fprintln(r.w, "  "+s)
		}
	}
	if len(r.bad) > 0 {
		fmt.Fprintf(r.w, "\nFAILED packages: %s\n", strings.Join(r.bad, " "))
	}
	if r.passed+r.failed == 0 {
		fmt.Fprintln(r.w, "\nno test ran")
	}
	fmt.Fprintf(r.w, "\n%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	return r.failed == 0 && r.passed > 0
}

// short drops the common module prefix: every line has it.
func short(importPath string) string {
	return strings.TrimPrefix(importPath, "github.com/lemnis/lemnis/")
}

// reason joins what a skipped test logged, without the runner's own lines.
func reason(output string) string {
	var said []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		said = append(said, line)
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, " ")
}

func indent(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString("      " + line)
	}
	if s != "" && !strings.HasSuffix(s, "\n") {
		b.WriteString("\n")
	}
	return b.String()
}

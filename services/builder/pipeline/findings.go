package pipeline

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/lemnis/lemnis/internal/excerpt"
	"github.com/lemnis/lemnis/internal/lines"
	"github.com/lemnis/lemnis/internal/testreport"
	"github.com/lemnis/lemnis/services/builder/coverage"
	"github.com/lemnis/lemnis/services/builder/definition"
)

// findings are what the reports of a step say.
type findings struct {
	cases   []testreport.Case
	profile coverage.Profile
	spared  []string // test cases that failed in quarantine
}

// failed names what did, for a reason of one line, without what failed only since something within it did; empty when nothing
// failed.
func (f findings) failed() string {
	const most = 10
	var names []string
	total := 0
	around := surrounding(f.cases)
	for _, c := range f.cases {
		if c.Outcome != testreport.Failed || around[placeOf(c)] > 0 {
			continue
		}
		if total++; total > most {
			continue
		}
		if c.Name == testreport.Package {
			names = append(names, "package "+c.Suite)
		} else {
			names = append(names, c.Name)
		}
	}
	if total == 0 {
		return ""
	}
	if total > most {
		names = append(names, fmt.Sprintf("and %d more", total-most))
	}
	return fmt.Sprintf("%d failed: %s", total, strings.Join(names, ", "))
}

// place is what a case is called within its suite.
type place struct{ suite, name string }

func placeOf(c testreport.Case) place { return place{c.Suite, c.Name} }

// within calls visit with each place that a case is within, the innermost first.
func within(c testreport.Case, visit func(place)) {
	name := c.Name
	for levels := 0; levels < mostLevels; levels++ {
		at := strings.LastIndexByte(name, '/')
		if at < 0 {
			return
		}
		name = name[:at]
		visit(place{c.Suite, name})
	}
}

// mostLevels of cases within one another are looked at: what is named by a report may have any number of slashes.
const mostLevels = 100

// surrounding counts the failed cases within each place.
func surrounding(cases []testreport.Case) map[place]int {
	all := map[place]int{}
	for _, c := range cases {
		if c.Outcome == testreport.Failed {
			within(c, func(p place) { all[p]++ })
		}
	}
	return all
}

// quarantine takes what failed in quarantine, and what failed only since something within it did, for skipped. Reason says why a test is in it.
func (f *findings) quarantine(reason func(test string) string) {
	if reason == nil {
		return
	}
	inner := surrounding(f.cases)
	open := maps.Clone(inner) // how many of them are not spared
	var failed []int
	for i, c := range f.cases {
		if c.Outcome == testreport.Failed {
			failed = append(failed, i)
		}
	}
	// From what is innermost outwards: what is within another has more slashes.
	slices.SortStableFunc(failed, func(a, b int) int {
		return strings.Count(f.cases[b].Name, "/") - strings.Count(f.cases[a].Name, "/")
	})
	for _, i := range failed {
		c := &f.cases[i]
		why := because(*c, reason)
		if open[placeOf(*c)] > 0 || inner[placeOf(*c)] == 0 && why == "" {
			continue
		}
		within(*c, func(p place) { open[p]-- })
		c.Outcome = testreport.Skipped
		if why != "" {
			c.Reason = "in quarantine " + why + ": " + c.Reason
			f.spared = append(f.spared, FullName(*c))
		}
	}
}

// because is why a case is in quarantine: it is itself, or what it is within.
func because(c testreport.Case, reason func(string) string) string {
	why := reason(FullName(c))
	within(c, func(p place) {
		if why == "" {
			why = reason(FullName(testreport.Case{Suite: p.suite, Name: p.name}))
		}
	})
	return why
}

// FullName is a test case with its suite.
func FullName(c testreport.Case) string {
	if c.Suite == "" {
		return c.Name
	}
	return c.Suite + "." + c.Name
}

func byName(a, b testreport.Case) int {
	return cmp.Or(strings.Compare(a.Suite, b.Suite), strings.Compare(a.Name, b.Name))
}

func (r *Report) add(f findings) {
	r.Tests = append(r.Tests, f.cases...)
	slices.SortStableFunc(r.Tests, byName)
	r.Profile.Merge(f.profile)
	r.Quarantined = append(r.Quarantined, f.spared...)
	r.Coverage, r.Statements = r.Profile.Whole()
}

// mostReport is how much is read of a step's reports of tests, and of those of coverage; mostCases how many test cases.
const (
	mostReport = 256 << 20
	mostCases  = 500_000
)

// mostErrors is how many reports that are none are told.
const mostErrors = 10

// mostWrong is how much of an error about a report is said: it may quote a line of it.
const mostWrong = 300

// read takes in the reports that a step left. A report that is no report is the step's fault. What the step's secrets are is in
// nothing that is read or said: reports are written by what had them.
func (r *run) read(task string, reports definition.Reports, secrets []string) (f findings, wrong error) {
	var all []error
	each := func(patterns []string, take func(folder string, text *bufio.Reader) error) {
		files, _ := r.glob(patterns, false)
		left := &io.LimitedReader{N: mostReport}
		for _, file := range files {
			opened, err := r.root.Open(file)
			if err == nil {
				left.R = opened
				err = take(path.Dir(file), bufio.NewReaderSize(left, 64<<10))
				_ = opened.Close()
				if left.N <= 0 {
					err = fmt.Errorf("of the step's reports no more than %d bytes are read", mostReport)
				}
			}
			if err != nil {
				all = append(all, fmt.Errorf("report %s: %s", file, excerpt.Of(masked(err.Error(), secrets), mostWrong)))
			}
			if left.N <= 0 || len(all) == mostErrors {
				break
			}
		}
	}
	each(reports.Tests, func(_ string, text *bufio.Reader) error {
		if begin, err := lines.Start(text); err != nil || begin == "" {
			return err // nothing ran
		}
		say := newMask(secrets, r.log.of(task))
		cases, err := testreport.Read(text, say) // what go test prints goes to the log, as text for people
		if flushed := say.Flush(); err == nil {
			err = flushed
		}
		maskCases(cases, secrets)
		if len(f.cases)+len(cases) > mostCases {
			return fmt.Errorf("the step's reports have more than %d test cases", mostCases)
		}
		f.cases = append(f.cases, cases...)
		return err
	})
	each(reports.Coverage, func(folder string, text *bufio.Reader) error {
		if _, err := text.Peek(1); errors.Is(err, io.EOF) {
			return nil // nothing ran
		}
		measured, err := coverage.Read(text, folder)
		if err == nil && f.profile.Parts()+measured.Parts() > coverage.Most {
			return fmt.Errorf("the step's reports have more than %d lines or blocks", coverage.Most)
		}
		f.profile.Merge(measured)
		return err
	})
	slices.SortStableFunc(f.cases, byName)
	return f, errors.Join(all...)
}

// maskCases takes secrets out of what is said of cases. A suite is masked once: its name may be long, and its cases share it.
func maskCases(cases []testreport.Case, secrets []string) {
	suites := map[string]string{}
	last := ""
	for i := range cases {
		c := &cases[i]
		if suite := c.Suite; i > 0 && suite == last {
			c.Suite = cases[i-1].Suite
		} else {
			if _, known := suites[suite]; !known {
				suites[suite] = masked(suite, secrets)
			}
			c.Suite, last = suites[suite], suite
		}
		c.Name, c.Reason = masked(c.Name, secrets), masked(c.Reason, secrets)
	}
}

// masked is a text without secrets, nor the beginning of one where the text is cut off. Errors have them quoted.
func masked(text string, secrets []string) string {
	if len(secrets) == 0 || text == "" {
		return text
	}
	forms := slices.Clone(secrets)
	for _, secret := range secrets {
		quoted := strconv.Quote(secret)
		forms = append(forms, quoted[1:len(quoted)-1])
	}
	var b strings.Builder
	m := newMask(forms, &b)
	whole, cut := strings.CutSuffix(text, "…")
	_, _ = io.WriteString(m, whole)
	if cut { // what the mask holds back might have become one
		return b.String() + "…"
	}
	_ = m.Flush()
	return b.String()
}

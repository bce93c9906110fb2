package pipeline

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/lemnis/lemnis/services/builder/coverage"
	"github.com/lemnis/lemnis/services/builder/definition"
	"github.com/lemnis/lemnis/services/builder/testreport"
)

// findings are what the reports of a step say.
type findings struct {
	cases   []TestCase
	broken  []string // packages that failed as a whole
	profile coverage.Profile
}

// failed says what did; empty when nothing did.
func (f findings) failed() string {
	if len(f.broken) == 0 && !slices.ContainsFunc(f.cases, func(c TestCase) bool { return c.Outcome == TestFailed }) {
		return ""
	}
	return failures(f.cases, f.broken)
}

func (r *Report) add(f findings) {
	r.Tests = append(r.Tests, f.cases...)
	slices.SortStableFunc(r.Tests, byName)
	r.Profile.Merge(f.profile)
	r.Coverage, r.Statements = r.Profile.Whole()
}

// mostReport is how much of a report is read.
const mostReport = 256 << 20

// read takes in the reports that a step left. A report that is no report is the step's fault.
func (r *run) read(reports definition.Reports) (f findings, wrong error) {
	var all []error
	each := func(patterns []string, take func(text *bufio.Reader) error) {
		files, err := r.glob(patterns)
		if err != nil {
			all = append(all, err)
			return
		}
		for _, file := range files {
			opened, err := r.root.Open(file)
			if err == nil {
				err = take(bufio.NewReaderSize(io.LimitReader(opened, mostReport), 64<<10))
				_ = opened.Close()
			}
			if err != nil {
				all = append(all, fmt.Errorf("report %s: %w", file, err))
			}
		}
	}
	each(reports.Tests, func(text *bufio.Reader) error { return f.tests(text, r.log) })
	each(reports.Coverage, func(text *bufio.Reader) error {
		if _, err := text.Peek(1); errors.Is(err, io.EOF) {
			return nil // nothing ran
		}
		measured, err := coverage.Read(text)
		f.profile.Merge(measured)
		return err
	})
	return f, errors.Join(all...)
}

// tests reads a report of tests, told by its beginning. What go test prints goes to the log too, as text for people.
func (f *findings) tests(text *bufio.Reader, log io.Writer) error {
	head, _ := text.Peek(512)
	switch begin := strings.TrimSpace(string(head)); {
	case begin == "":
		return nil // nothing ran
	case strings.HasPrefix(begin, "{"):
		reader := newTestReader(log)
		if _, err := io.Copy(reader, text); err != nil {
			return err
		}
		f.cases, f.broken = append(f.cases, reader.finish()...), append(f.broken, reader.broken...)
		return nil
	}
	cases, err := testreport.Read(text)
	for _, c := range cases {
		f.cases = append(f.cases, TestCase{Package: c.Suite, Name: c.Name, Outcome: TestOutcome(c.Outcome), Elapsed: c.Elapsed})
	}
	return err
}

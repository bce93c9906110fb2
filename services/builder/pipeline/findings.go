package pipeline

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/lemnis/lemnis/services/builder/coverage"
	"github.com/lemnis/lemnis/services/builder/definition"
	"github.com/lemnis/lemnis/services/builder/lines"
	"github.com/lemnis/lemnis/services/builder/testreport"
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
	var names []string
	for _, c := range f.cases {
		within := func(o testreport.Case) bool {
			return o.Outcome == testreport.Failed && o.Suite == c.Suite && strings.HasPrefix(o.Name, c.Name+"/")
		}
		switch {
		case c.Outcome != testreport.Failed, slices.ContainsFunc(f.cases, within):
		case c.Name == testreport.Package:
			names = append(names, "package "+c.Suite)
		default:
			names = append(names, c.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	const most = 10
	total := len(names)
	if total > most {
		names = append(names[:most], fmt.Sprintf("and %d more", total-most))
	}
	return fmt.Sprintf("%d failed: %s", total, strings.Join(names, ", "))
}

// quarantine takes what failed in quarantine, and what failed only since something within it did, for skipped. Reason says why a test is in it.
func (f *findings) quarantine(reason func(test string) string) {
	if reason == nil {
		return
	}
	was := slices.Clone(f.cases)
	spared := make([]bool, len(was))
	failed := func(c testreport.Case) bool { return c.Outcome == testreport.Failed }
	for more := true; more; { // from what is innermost outwards
		more = false
		for i, c := range was {
			if !failed(c) || spared[i] {
				continue
			}
			inner, open := false, false
			for j, o := range was {
				if failed(o) && o.Suite == c.Suite && strings.HasPrefix(o.Name, c.Name+"/") {
					inner, open = true, open || !spared[j]
				}
			}
			why := because(c, reason)
			if open || !inner && why == "" {
				continue
			}
			spared[i], more = true, true
			f.cases[i].Outcome = testreport.Skipped
			if why != "" {
				f.cases[i].Reason = "in quarantine " + why + ": " + c.Reason
				f.spared = append(f.spared, FullName(c))
			}
		}
	}
}

// because is why a case is in quarantine: it is itself, or what it is within.
func because(c testreport.Case, reason func(string) string) string {
	for {
		if why := reason(FullName(c)); why != "" {
			return why
		}
		at := strings.LastIndexByte(c.Name, '/')
		if at < 0 {
			return ""
		}
		c.Name = c.Name[:at]
	}
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

// mostReport is how much of a report is read.
const mostReport = 256 << 20

// mostWrong is how much of an error about a report is said: it may quote a line of it.
const mostWrong = 300

// read takes in the reports that a step left. A report that is no report is the step's fault. What the step's secrets are is in
// nothing that is read or said: reports are written by what had them.
func (r *run) read(task string, reports definition.Reports, secrets []string) (f findings, wrong error) {
	var all []error
	each := func(patterns []string, take func(text *bufio.Reader) error) {
		files, _ := r.glob(patterns, false)
		for _, file := range files {
			opened, err := r.root.Open(file)
			if err == nil {
				err = take(bufio.NewReaderSize(io.LimitReader(opened, mostReport), 64<<10))
				_ = opened.Close()
			}
			if err != nil {
				text := masked(err.Error(), secrets)
				if len(text) > mostWrong {
					text = strings.ToValidUTF8(text[:mostWrong], "") + "…"
				}
				all = append(all, fmt.Errorf("report %s: %s", file, text))
			}
		}
	}
	each(reports.Tests, func(text *bufio.Reader) error {
		if begin, err := lines.Start(text); err != nil || begin == "" {
			return err // nothing ran
		}
		say := newMask(secrets, r.log.of(task))
		cases, err := testreport.Read(text, say) // what go test prints goes to the log, as text for people
		if flushed := say.Flush(); err == nil {
			err = flushed
		}
		for i := range cases {
			c := &cases[i]
			c.Suite, c.Name, c.Reason = masked(c.Suite, secrets), masked(c.Name, secrets), masked(c.Reason, secrets)
		}
		f.cases = append(f.cases, cases...)
		return err
	})
	each(reports.Coverage, func(text *bufio.Reader) error {
		if _, err := text.Peek(1); errors.Is(err, io.EOF) {
			return nil // nothing ran
		}
		measured, err := coverage.Read(text)
		f.profile.Merge(measured)
		return err
	})
	slices.SortStableFunc(f.cases, byName)
	return f, errors.Join(all...)
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

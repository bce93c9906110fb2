package pipeline

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const longestLine = 1 << 20

// testEvent is a line of go test -json.
type testEvent struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64 // seconds
	Output     string
}

type testKey struct{ pkg, name string }

// testReader takes what go test -json prints, writes the text for people to the log and keeps what
// became of every test case.
type testReader struct {
	log     io.Writer
	line    []byte
	started map[testKey]bool
	cases   []TestCase
	broken  []string // packages that failed as a whole
}

func newTestReader(log io.Writer) *testReader {
	return &testReader{log: log, started: map[testKey]bool{}}
}

func (r *testReader) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			r.line = append(r.line, p...)
			if len(r.line) > longestLine {
				r.flush()
			}
			return n, nil
		}
		r.line = append(r.line, p[:end+1]...)
		p = p[end+1:]
		r.flush()
	}
	return n, nil
}

func (r *testReader) flush() {
	defer func() { r.line = r.line[:0] }()
	var e testEvent
	if len(r.line) == 0 {
		return
	}
	if err := json.Unmarshal(r.line, &e); err != nil || e.Action == "" {
		_, _ = r.log.Write(r.line) // not of the test protocol: a message of the go command
		return
	}
	key := testKey{e.Package, e.Test}
	switch e.Action {
	case "output", "build-output":
		_, _ = io.WriteString(r.log, e.Output)
	case "run":
		r.started[key] = true
	case "pass", "fail", "skip":
		if e.Test == "" {
			if e.Action == "fail" {
				r.broken = append(r.broken, e.Package)
			}
			return
		}
		delete(r.started, key)
		r.cases = append(r.cases, TestCase{Package: e.Package, Name: e.Test,
			Outcome: TestOutcome(e.Action), Elapsed: time.Duration(e.Elapsed * float64(time.Second))})
	}
}

// finish returns the cases in a stable order. A case that started and never ended (the process
// died in it) has failed.
func (r *testReader) finish() []TestCase {
	r.flush()
	for key := range r.started {
		r.cases = append(r.cases, TestCase{Package: key.pkg, Name: key.name, Outcome: TestFailed})
	}
	slices.SortStableFunc(r.cases, byName)
	return r.cases
}

func byName(a, b TestCase) int {
	return cmp.Or(strings.Compare(a.Package, b.Package), strings.Compare(a.Name, b.Name))
}

// failures names what failed, for a reason of one line: the innermost cases, or the packages.
func failures(cases []TestCase, broken []string) string {
	var names []string
	for i, c := range cases {
		// Sorted, so a case's subtests follow it; the case only fails with them.
		inner := slices.ContainsFunc(cases[i+1:], func(o TestCase) bool {
			return o.Outcome == TestFailed && o.Package == c.Package && strings.HasPrefix(o.Name, c.Name+"/")
		})
		if c.Outcome == TestFailed && !inner {
			names = append(names, c.Name)
		}
	}
	if len(names) == 0 {
		for _, p := range broken {
			names = append(names, "package "+p)
		}
	}
	const most = 10
	total := len(names)
	if total > most {
		names = append(names[:most], fmt.Sprintf("and %d more", total-most))
	}
	return fmt.Sprintf("%d failed: %s", total, strings.Join(names, ", "))
}

package testreport

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lemnis/lemnis/internal/excerpt"
	"github.com/lemnis/lemnis/internal/lines"
)

// Outcome is how a test case ended.
type Outcome string

// The outcomes, in the words of go test -json.
const (
	Passed  Outcome = "pass"
	Failed  Outcome = "fail"
	Skipped Outcome = "skip"
)

// Case is one test case, or a failure that is no case's: a package of tests that does not build, a plan that was not kept.
type Case struct {
	Suite   string // package, class or file; may be empty
	Name    string
	Outcome Outcome
	Flaky   bool          // passed at last, after failures in the same run
	Reused  bool          // it did not run: it is of an earlier run, whose result was taken
	Elapsed time.Duration // 0 where it is not said
	Reason  string        // why it failed or was skipped; its first 2,000 bytes
}

// Package is the name of a case that is a Go package as a whole: it does not build, or failed beside its cases.
const Package = "package"

// Suite is the name of a case that is a suite of JUnit's as a whole: it could not begin, say.
const Suite = "suite"

const (
	longestReason = 2000
	mostCases     = 500_000   // of one report
	mostDepth     = 100       // of levels of TAP within one another
	longestNames  = 256 << 20 // bytes of the names of cases of TAP, with those that they are within
)

var errLong = fmt.Errorf("the names of its test cases, with those that they are within, have more than %d bytes", longestNames)

var errMany = fmt.Errorf("more than %d test cases", mostCases)

// Read reads a report of any of the formats, in its order. Errors name the line; beside one, the cases before it are there.
// They quote whole lines: whoever shows one masks secrets before cutting it. say gets what go test -json would have printed for people; nil: nobody.
func Read(r io.Reader, say io.Writer) ([]Case, error) {
	in := bufio.NewReaderSize(r, 4096)
	start, err := lines.Start(in)
	if err != nil {
		return nil, err
	}
	if say == nil {
		say = io.Discard
	}
	switch {
	case start == "":
		return nil, errors.New("the test report is empty")
	case start[0] == '<':
		return readJUnit(in)
	case start[0] == '{':
		return readGo(in, say)
	case isTAP(start):
		return readTAP(in)
	default:
		return nil, fmt.Errorf("line 1: neither JUnit XML, nor go test -json, nor TAP: %q", start)
	}
}

func shortened(reason string) string {
	return excerpt.Of(reason, longestReason)
}

func seconds(s float64) time.Duration {
	if !(s > 0 && s < 1e9) { // also what is no number
		return 0
	}
	return time.Duration(s * float64(time.Second))
}

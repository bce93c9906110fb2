package testreport

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
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
	Elapsed time.Duration // 0 where it is not said
	Reason  string        // why it failed or was skipped; its first 2,000 bytes
}

const (
	longestLine   = 1 << 20
	longestReason = 2000
)

var byteOrderMark = []byte("\xef\xbb\xbf")

// Read reads a report of any of the formats, in its order. Errors name the line.
func Read(r io.Reader) ([]Case, error) {
	in := bufio.NewReaderSize(r, 4096)
	start, err := in.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	start = bytes.TrimSpace(bytes.TrimPrefix(start, byteOrderMark))
	switch {
	case len(start) == 0:
		return nil, errors.New("the test report is empty")
	case start[0] == '<':
		return readJUnit(in)
	case start[0] == '{':
		return readGo(in)
	case isTAP(string(start)):
		return readTAP(in)
	default:
		return nil, fmt.Errorf("line 1: neither JUnit XML, nor go test -json, nor TAP: %.40q", start)
	}
}

// eachLine calls read with each line, without its end, and puts the line's number, from 1, on its errors.
func eachLine(in io.Reader, read func(line string) error) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, longestLine)
	n := 0
	for lines.Scan() {
		n++
		if err := read(lines.Text()); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("line %d: %w", n+1, err)
	}
	return nil
}

func shortened(reason string) string {
	if len(reason) > longestReason {
		return reason[:longestReason] + "…"
	}
	return reason
}

func seconds(s float64) time.Duration {
	if !(s > 0 && s < 1e9) { // also what is no number
		return 0
	}
	return time.Duration(s * float64(time.Second))
}

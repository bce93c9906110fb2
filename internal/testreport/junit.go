package testreport

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/lemnis/lemnis/internal/lines"
)

// readJUnit reads the cases of all suites, however deep they lie in one another.
func readJUnit(in io.Reader) (cases []Case, err error) {
	xmls := lines.XML(in)
	var suites []string
	said, failed := 0, false
	fail := func(err error) ([]Case, error) {
		line, _ := xmls.InputPos()
		return nil, fmt.Errorf("line %d: %w", line, err)
	}
	root := true
	for {
		token, err := xmls.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fail(err)
		}
		switch element := token.(type) {
		case xml.StartElement:
			name := element.Name.Local
			if root && name != "testsuites" && name != "testsuite" {
				return fail(fmt.Errorf("the root of JUnit's XML is <testsuites> or <testsuite>, not <%s>", name))
			}
			root = false
			switch name {
			case "testsuites", "testsuite":
				said = max(said, number(element.Attr, "failures")+number(element.Attr, "errors"))
				if name == "testsuite" {
					suites = append(suites, attribute(element.Attr, "name"))
				}
			case "failure", "error": // of a suite as a whole
				var m junitMessage
				if err := xmls.DecodeElement(&m, &element); err != nil {
					return fail(err)
				}
				if len(cases) == mostCases {
					return fail(errMany)
				}
				cases, failed = append(cases, Case{Suite: last(suites), Name: Suite, Outcome: Failed, Reason: m.reason()}), true
			case "testcase":
				var c junitCase
				if err := xmls.DecodeElement(&c, &element); err != nil {
					return fail(err)
				}
				one, err := c.toCase(last(suites))
				if err != nil {
					return fail(err)
				}
				if len(cases) == mostCases {
					return fail(errMany)
				}
				cases, failed = append(cases, one), failed || one.Outcome == Failed
			}
		case xml.EndElement:
			if element.Name.Local == "testsuite" {
				suites = suites[:len(suites)-1]
			}
		}
	}
	if root {
		return fail(errors.New("no <testsuites> and no <testsuite>"))
	}
	if said > 0 && !failed {
		cases = append(cases, Case{Name: Suite, Outcome: Failed, Reason: fmt.Sprintf("a suite says that %d failed, and no case does", said)})
	}
	return cases, nil
}

// last is the suite that is read, empty outside of all.
func last(suites []string) string {
	if len(suites) == 0 {
		return ""
	}
	return suites[len(suites)-1]
}

func number(all []xml.Attr, name string) int {
	n, err := strconv.Atoi(attribute(all, name))
	if err != nil {
		return 0
	}
	return n
}

func attribute(all []xml.Attr, name string) string {
	for _, a := range all {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// junitCase is a <testcase>, with what Maven's surefire adds of cases that were run again.
type junitCase struct {
	Name     string         `xml:"name,attr"`
	Class    string         `xml:"classname,attr"`
	Time     string         `xml:"time,attr"`
	Status   string         `xml:"status,attr"` // of GoogleTest and CTest: whether it ran
	Failures []junitMessage `xml:"failure"`
	Errors   []junitMessage `xml:"error"`
	Skipped  *junitMessage  `xml:"skipped"`
	Flaky    []junitMessage `xml:"flakyFailure"`
	FlakyErr []junitMessage `xml:"flakyError"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func (m junitMessage) reason() string {
	message, text := strings.TrimSpace(m.Message), strings.TrimSpace(m.Text)
	if message == "" || strings.HasPrefix(text, message) {
		message, text = text, ""
	}
	if text != "" {
		message += "\n" + text
	}
	return shortened(message)
}

func (j junitCase) toCase(suite string) (Case, error) {
	if j.Name == "" {
		if j.Class == "" {
			return Case{}, errors.New("a testcase without name")
		}
		j.Name = Suite // surefire's word for a class that could not begin
	}
	c := Case{Suite: suite, Name: j.Name, Outcome: Passed}
	if j.Class != "" {
		c.Suite = j.Class
	}
	if j.Time != "" {
		s, err := strconv.ParseFloat(strings.ReplaceAll(j.Time, ",", ""), 64) // some tools write 1,234.5
		if err != nil {
			return Case{}, fmt.Errorf("testcase %q: time=%q is no number of seconds", j.Name, j.Time)
		}
		c.Elapsed = seconds(s)
	}
	switch bad := slices.Concat(j.Failures, j.Errors); {
	case len(bad) > 0:
		c.Outcome, c.Reason = Failed, bad[0].reason()
	case j.Skipped == nil && (j.Status == "notrun" || j.Status == "disabled"):
		c.Outcome = Skipped
	case j.Skipped != nil:
		c.Outcome, c.Reason = Skipped, j.Skipped.reason()
	default:
		if before := slices.Concat(j.Flaky, j.FlakyErr); len(before) > 0 {
			c.Flaky, c.Reason = true, before[0].reason()
		}
	}
	return c, nil
}

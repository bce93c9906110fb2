package testreport

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/lemnis/lemnis/services/builder/lines"
)

var (
	tapPlan  = regexp.MustCompile(`^1\.\.(\d+)\s*(?:#\s*(.*))?$`)
	tapTime  = regexp.MustCompile(`^time=([0-9.]+)(ms|s)$`)
	tapPoint = regexp.MustCompile(`^(not )?ok\b\s*(\d+)?\s*(?:- )?(.*)$`)
)

// isTAP tells by the first line that is no comment.
func isTAP(start string) bool {
	for line := range strings.Lines(start) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		return strings.HasPrefix(line, "TAP version ") || tapPlan.MatchString(line) || tapPoint.MatchString(line)
	}
	return false
}

// tapLevel is a stream of TAP, or one within a test point of the stream around it.
type tapLevel struct {
	planned int // -1: not said yet
	points  int
	cases   []Case
}

// tapReader reads versions 12 to 14. A level is 4 spaces deeper than the one around it, and comes before its test point.
type tapReader struct {
	levels []*tapLevel
	yaml   int // how deep the diagnostic block stands that it is within; -1: it is within none
	point  int // how deep the test point stands that the line before was; -1: it was none
	bailed bool
	count  int
	long   int      // bytes that names may still get from the levels around them
	opened []string // names of test points whose levels come behind them, in braces, by depth; empty: of none
}

func readTAP(in io.Reader) ([]Case, error) {
	r := &tapReader{levels: []*tapLevel{{planned: -1}}, yaml: -1, point: -1, long: longestNames}
	if err := lines.Each(in, r.line); err != nil {
		return nil, err
	}
	for len(r.levels) > 1 { // cut off within
		r.close("")
	}
	top := r.levels[0]
	if r.long < 0 {
		return nil, errLong
	}
	if !r.bailed {
		top.keepPlan()
		if top.planned < 0 {
			top.cases = append(top.cases, Case{Name: "plan", Outcome: Failed, Reason: "no plan came, as 1..N: the program may have ended before it was done"})
		}
	}
	return top.cases, nil
}

func (r *tapReader) line(line string) error {
	text := strings.TrimLeft(line, " ")
	indent := len(line) - len(text)
	depth := indent / 4
	text = strings.TrimRight(text, " \r")
	behind := r.point
	r.point = -1
	switch {
	case r.bailed || text == "":
		return nil
	case r.yaml >= 0 && indent >= r.yaml:
		r.diagnose(text)
		return nil
	case text == "---" && behind >= 0 && indent > behind: // else the program draws a line
		r.yaml = indent
		return nil
	case text == "}" && len(r.opened) > depth && r.opened[depth] != "":
		for len(r.levels) > depth+1 {
			r.close(r.opened[depth])
		}
		r.opened[depth] = ""
		return nil
	case strings.HasPrefix(text, "Bail out!"):
		reason := strings.TrimSpace(strings.TrimPrefix(text, "Bail out!"))
		r.levels[0].cases = append(r.levels[0].cases, Case{Name: "Bail out!", Outcome: Failed, Reason: shortened(reason)})
		r.bailed = true
		return nil
	}
	if r.long < 0 {
		return errLong
	}
	r.yaml = -1 // a block that was not ended
	plan, point := tapPlan.FindStringSubmatch(text), tapPoint.FindStringSubmatch(text)
	if plan == nil && point == nil || depth > mostDepth {
		return nil // a comment, a version, or what the program prints itself
	}
	for len(r.levels) <= depth {
		r.levels = append(r.levels, &tapLevel{planned: -1})
	}
	if plan != nil {
		return r.levels[depth].plan(plan)
	}
	r.point = indent
	one, opens := tapCase(point)
	for len(r.levels) > depth+1 { // what came deeper was this point's
		r.close(one.Name)
	}
	level := r.levels[depth]
	level.points++
	if one.Name == "" {
		one.Name = "test " + strconv.Itoa(level.points)
	}
	level.cases = append(level.cases, one)
	if opens {
		for len(r.opened) <= depth {
			r.opened = append(r.opened, "")
		}
		r.opened[depth] = one.Name
	}
	if r.count++; r.count > mostCases {
		return errMany
	}
	return nil
}

// close ends the deepest level; its cases become those of the level around it, under the name of their test point.
func (r *tapReader) close(name string) {
	last := r.levels[len(r.levels)-1]
	r.levels = r.levels[:len(r.levels)-1]
	last.keepPlan()
	around := r.levels[len(r.levels)-1]
	for _, c := range last.cases {
		if r.long -= len(name) + len(c.Name); r.long < 0 { // a long name around many
			return
		}
		if name != "" {
			c.Name = name + "/" + c.Name
		}
		around.cases = append(around.cases, c)
	}
}

// diagnose reads a line of the block behind a test point.
func (r *tapReader) diagnose(text string) {
	if text == "..." {
		r.yaml = -1
		return
	}
	cases := r.levels[len(r.levels)-1].cases
	if len(cases) == 0 {
		return
	}
	last := &cases[len(cases)-1]
	key, value, _ := strings.Cut(text, ":")
	value = strings.Trim(strings.TrimSpace(value), `"'`)
	switch key {
	case "message", "error": // of TAP 13, and of Node
		if last.Reason == "" && last.Outcome == Failed && !strings.HasPrefix(value, "|") {
			last.Reason = shortened(value)
		}
	case "duration_ms":
		if ms, err := strconv.ParseFloat(value, 64); err == nil && last.Elapsed == 0 {
			last.Elapsed = seconds(ms / 1000)
		}
	}
}

func (l *tapLevel) plan(match []string) error {
	n, err := strconv.Atoi(match[1])
	if err != nil || n > 10_000_000 {
		return fmt.Errorf("no plan: 1..%s", match[1])
	}
	if l.planned >= 0 {
		return errors.New("a second plan")
	}
	l.planned = n
	return nil
}

// keepPlan adds a failure where fewer or more test points came than were planned.
func (l *tapLevel) keepPlan() {
	if l.planned >= 0 && l.points != l.planned {
		l.cases = append(l.cases, Case{Name: "plan", Outcome: Failed, Reason: fmt.Sprintf("%d planned, %d came", l.planned, l.points)})
	}
}

// tapCase reads a test point. One that is still to be done (# TODO) is no failure, whatever it says. Of one that opens a brace what is
// within comes behind it.
func tapCase(match []string) (c Case, opens bool) {
	c = Case{Outcome: Passed}
	if match[1] != "" {
		c.Outcome = Failed
	}
	description, directive := match[3], ""
	description, opens = strings.CutSuffix(description, "{")
	if opens {
		opens = description == "" || strings.HasSuffix(description, " ")
	}
	if !opens {
		description = match[3]
	}
	whole := description
	if at := strings.LastIndex(description, "#"); at >= 0 && (at == 0 || description[at-1] != '\\') {
		description, directive = description[:at], strings.TrimSpace(description[at+1:])
	}
	c.Name = strings.TrimSpace(strings.ReplaceAll(description, `\#`, "#"))
	word, reason, _ := strings.Cut(directive, " ")
	switch upper := strings.ToUpper(word); {
	case strings.HasPrefix(upper, "SKIP"), strings.HasPrefix(upper, "TODO"):
		c.Outcome, c.Reason = Skipped, shortened(strings.TrimSpace(reason))
	case tapTime.MatchString(directive): // of node-tap: no part of the name, which is the same in every run
		c.Elapsed = tapElapsed(directive)
	case directive != "":
		c.Name = strings.TrimSpace(strings.ReplaceAll(whole, `\#`, "#")) // a number sign of the description
	}
	return c, opens
}

func tapElapsed(directive string) time.Duration {
	match := tapTime.FindStringSubmatch(directive)
	s, err := strconv.ParseFloat(match[1], 64)
	if err != nil {
		return 0
	}
	if match[2] == "ms" {
		s /= 1000
	}
	return seconds(s)
}

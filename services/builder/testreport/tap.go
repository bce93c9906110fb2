package testreport

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/lemnis/lemnis/services/builder/lines"
)

var (
	tapPlan  = regexp.MustCompile(`^1\.\.(\d+)\s*(?:#\s*(.*))?$`)
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
	yaml   bool // within a diagnostic block
	bailed bool
}

func readTAP(in io.Reader) ([]Case, error) {
	r := &tapReader{levels: []*tapLevel{{planned: -1}}}
	if err := lines.Each(in, r.line); err != nil {
		return nil, err
	}
	for len(r.levels) > 1 { // cut off within
		r.close("")
	}
	top := r.levels[0]
	if !r.bailed {
		top.keepPlan()
	}
	return top.cases, nil
}

func (r *tapReader) line(line string) error {
	text := strings.TrimLeft(line, " ")
	depth := (len(line) - len(text)) / 4
	text = strings.TrimRight(text, " \r")
	switch {
	case r.bailed || text == "":
		return nil
	case r.yaml:
		r.diagnose(text)
		return nil
	case text == "---":
		r.yaml = true
		return nil
	case strings.HasPrefix(text, "Bail out!"):
		reason := strings.TrimSpace(strings.TrimPrefix(text, "Bail out!"))
		r.levels[0].cases = append(r.levels[0].cases, Case{Name: "Bail out!", Outcome: Failed, Reason: shortened(reason)})
		r.bailed = true
		return nil
	}
	plan, point := tapPlan.FindStringSubmatch(text), tapPoint.FindStringSubmatch(text)
	if plan == nil && point == nil {
		return nil // a comment, a version, or what the program prints itself
	}
	for len(r.levels) <= depth {
		r.levels = append(r.levels, &tapLevel{planned: -1})
	}
	if plan != nil {
		return r.levels[depth].plan(plan)
	}
	one := tapCase(point)
	for len(r.levels) > depth+1 { // what came deeper was this point's
		r.close(one.Name)
	}
	level := r.levels[depth]
	level.points++
	if one.Name == "" {
		one.Name = "test " + strconv.Itoa(level.points)
	}
	level.cases = append(level.cases, one)
	return nil
}

// close ends the deepest level; its cases become those of the level around it, under the name of their test point.
func (r *tapReader) close(name string) {
	last := r.levels[len(r.levels)-1]
	r.levels = r.levels[:len(r.levels)-1]
	last.keepPlan()
	around := r.levels[len(r.levels)-1]
	for _, c := range last.cases {
		if name != "" {
			c.Name = name + "/" + c.Name
		}
		around.cases = append(around.cases, c)
	}
}

// diagnose reads a line of the block behind a test point.
func (r *tapReader) diagnose(text string) {
	if text == "..." {
		r.yaml = false
		return
	}
	cases := r.levels[len(r.levels)-1].cases
	if message, is := strings.CutPrefix(text, "message:"); is && len(cases) > 0 {
		last := &cases[len(cases)-1]
		if last.Reason == "" && last.Outcome == Failed {
			last.Reason = shortened(strings.Trim(strings.TrimSpace(message), `"'`))
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

// tapCase reads a test point. One that is still to be done (# TODO) is no failure, whatever it says.
func tapCase(match []string) Case {
	c := Case{Outcome: Passed}
	if match[1] != "" {
		c.Outcome = Failed
	}
	description, directive := match[3], ""
	if at := strings.LastIndex(description, "#"); at >= 0 && (at == 0 || description[at-1] != '\\') {
		description, directive = description[:at], strings.TrimSpace(description[at+1:])
	}
	c.Name = strings.TrimSpace(strings.ReplaceAll(description, `\#`, "#"))
	word, reason, _ := strings.Cut(directive, " ")
	switch upper := strings.ToUpper(word); {
	case strings.HasPrefix(upper, "SKIP"), strings.HasPrefix(upper, "TODO"):
		c.Outcome, c.Reason = Skipped, shortened(strings.TrimSpace(reason))
	case directive != "":
		c.Name = strings.TrimSpace(strings.ReplaceAll(match[3], `\#`, "#")) // a number sign of the description
	}
	return c
}

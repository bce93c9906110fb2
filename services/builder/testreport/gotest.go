package testreport

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/lemnis/lemnis/services/builder/lines"
)

// goEvent is a line of go test -json.
type goEvent struct {
	Action  string
	Package string
	Test    string
	Elapsed float64 // seconds
	Output  string
}

type goKey struct{ pkg, name string }

// goReader follows what go test -json says of every case.
type goReader struct {
	open    []goKey // started, not ended, in order
	cases   []Case
	failing map[string]bool    // packages with a case that failed
	last    map[goKey][]string // what each said last, for a reason
	say     io.Writer
}

func readGo(in io.Reader, say io.Writer) ([]Case, error) {
	g := goReader{say: say, failing: map[string]bool{}, last: map[goKey][]string{}}
	err := lines.Each(in, func(line string) error {
		if !strings.HasPrefix(line, "{") { // a message of the go command
			_, _ = io.WriteString(say, line+"\n")
			return nil
		}
		var e goEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return fmt.Errorf("no event of go test -json: %w", err)
		}
		g.take(e)
		return nil
	})
	// The process died in what began and never ended.
	for _, key := range g.open {
		g.end(key, Failed, 0)
	}
	return g.cases, err
}

// keptLines of the output of a case are its reason when it fails.
const keptLines = 20

func (g *goReader) take(e goEvent) {
	key := goKey{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		_, _ = io.WriteString(g.say, e.Output)
	case "run":
		g.open = append(g.open, key)
	case "output":
		_, _ = io.WriteString(g.say, e.Output)
		g.keep(key, e.Output)
	case "pass", "fail", "skip":
		if e.Test != "" {
			g.end(key, Outcome(e.Action), e.Elapsed)
		} else if e.Action == "fail" && !g.failing[e.Package] && !slices.ContainsFunc(g.open, func(k goKey) bool { return k.pkg == e.Package }) {
			g.cases = append(g.cases, Case{Suite: e.Package, Name: Package, Outcome: Failed, Reason: g.reason(key)})
		}
	}
}

// keep keeps the last lines of a case. A long line comes in several events.
func (g *goReader) keep(key goKey, output string) {
	last := g.last[key]
	if n := len(last); n > 0 && !strings.HasSuffix(last[n-1], "\n") {
		if len(last[n-1]) <= longestReason || strings.HasSuffix(output, "\n") { // of more nothing is shown
			last[n-1] += output
		}
		return
	}
	if !noise(output) {
		last = append(last, output)
		g.last[key] = last[max(0, len(last)-keptLines):]
	}
}

func (g *goReader) reason(key goKey) string {
	return shortened(strings.TrimRight(strings.Join(g.last[key], ""), "\n"))
}

func (g *goReader) end(key goKey, outcome Outcome, elapsed float64) {
	g.open = slices.DeleteFunc(g.open, func(k goKey) bool { return k == key })
	c := Case{Suite: key.pkg, Name: key.name, Outcome: outcome, Elapsed: seconds(elapsed)}
	if outcome != Passed {
		c.Reason = g.reason(key)
	}
	if outcome == Failed {
		g.failing[key.pkg] = true
	}
	delete(g.last, key)
	g.cases = append(g.cases, c)
}

// noise is what the testing package prints of its own accord.
func noise(line string) bool {
	line = strings.TrimSpace(line)
	for _, start := range []string{"=== RUN", "=== PAUSE", "=== CONT", "=== NAME", "--- PASS", "--- FAIL", "--- SKIP", "FAIL\t"} {
		if strings.HasPrefix(line, start) {
			return true
		}
	}
	return line == "" || line == "PASS" || line == "FAIL"
}

package testreport

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/lemnis/lemnis/internal/lines"
)

// goEvent is a line of go test -json.
type goEvent struct {
	Action  string
	Package string
	Test    string
	Elapsed float64 // seconds
	Output  string

	ImportPath  string // of what is built
	FailedBuild string // which build a package failed of
}

type goKey struct{ pkg, name string }

// goReader follows what go test -json says of every case.
type goReader struct {
	open    map[goKey]int // started, not ended: when, in order
	begun   int
	cases   []Case
	failing map[string]bool           // packages with a case that failed
	last    map[goKey][]string        // what each said last, for a reason
	of      map[string]map[goKey]bool // what is open of a package
	say     io.Writer
}

func readGo(in io.Reader, say io.Writer) ([]Case, error) {
	g := goReader{say: say, open: map[goKey]int{}, of: map[string]map[goKey]bool{}, failing: map[string]bool{}, last: map[goKey][]string{}}
	err := lines.Each(in, func(line string) error {
		if !strings.HasPrefix(line, "{") { // a message of the go command
			_, _ = io.WriteString(say, line+"\n")
			return nil
		}
		var e goEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return fmt.Errorf("no event of go test -json: %w", err)
		}
		if len(g.cases)+len(g.open) >= mostCases {
			return errMany
		}
		g.take(e)
		return nil
	})
	// The process died in what began and never ended.
	all := map[goKey]bool{}
	for key := range g.open {
		all[key] = true
	}
	for _, key := range g.inOrder(all) {
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
		g.keep(goKey{pkg: e.ImportPath}, e.Output)
	case "run":
		if _, there := g.open[key]; !there {
			g.begun++
			g.open[key] = g.begun
			if g.of[e.Package] == nil {
				g.of[e.Package] = map[goKey]bool{}
			}
			g.of[e.Package][key] = true
		}
	case "output":
		_, _ = io.WriteString(g.say, e.Output)
		g.keep(key, e.Output)
	case "pass", "fail", "skip":
		switch {
		case e.Test != "":
			g.end(key, Outcome(e.Action), e.Elapsed)
		case e.Action == "fail":
			if !g.failing[e.Package] && len(g.of[e.Package]) == 0 {
				reason := g.reason(key)
				if e.FailedBuild != "" && reason == "" {
					reason = g.reason(goKey{pkg: e.FailedBuild}) // what the compiler said
				}
				g.cases = append(g.cases, Case{Suite: e.Package, Name: Package, Outcome: Failed, Reason: reason})
			}
		default:
			g.rest(e.Package)
		}
	}
}

// rest ends what is open of a package that did not fail: nothing is said of the end of a benchmark, nor of a test's that left its last
// line unfinished.
func (g *goReader) rest(pkg string) {
	for _, key := range g.inOrder(g.of[pkg]) {
		if strings.HasPrefix(key.name, "Benchmark") {
			g.close(key)
			delete(g.last, key)
		} else {
			g.end(key, Passed, 0)
		}
	}
}

// inOrder are cases that are open, as they began.
func (g *goReader) inOrder(keys map[goKey]bool) []goKey {
	return slices.SortedFunc(maps.Keys(keys), func(a, b goKey) int { return cmp.Compare(g.open[a], g.open[b]) })
}

func (g *goReader) close(key goKey) {
	delete(g.open, key)
	if delete(g.of[key.pkg], key); len(g.of[key.pkg]) == 0 {
		delete(g.of, key.pkg)
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
	g.close(key)
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

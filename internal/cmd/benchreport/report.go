package main

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// benchmark is the start of a result's line. The number of processors is left out of a name by one processor.
var benchmark = regexp.MustCompile(`^Benchmark(\S+?)(-\d+)?\s+\d+\s+`)

type measure struct{ benchmark, unit string }

type report struct {
	w      io.Writer
	goals  []goal
	values map[measure][]float64
	failed bool
}

func newReport(w io.Writer, goals []goal) *report {
	return &report{w: w, goals: goals, values: map[measure][]float64{}}
}

// read consumes the whole output and passes it on.
func (r *report) read(in io.Reader) error {
	br := bufio.NewReader(in)
	for {
		line, err := br.ReadString('\n')
		if _, werr := io.WriteString(r.w, line); werr != nil {
			return fmt.Errorf("pass the output on: %w", werr)
		}
		r.line(line)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the output: %w", err)
		}
	}
}

func (r *report) line(line string) {
	if strings.HasPrefix(line, "FAIL") || strings.HasPrefix(line, "--- FAIL") {
		r.failed = true
	}
	m := benchmark.FindStringSubmatch(line)
	if m == nil {
		return
	}
	fields := strings.Fields(line[len(m[0]):]) // value unit value unit …
	for i := 0; i+1 < len(fields); i += 2 {
		if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
			key := measure{m[1], fields[i+1]}
			r.values[key] = append(r.values[key], v)
		}
	}
}

// close prints the table and says whether it is whole.
func (r *report) close() bool {
	t := tabwriter.NewWriter(r.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nmeasure\tmeasured\tgoal\t")
	met, missing := 0, 0
	for _, g := range r.goals {
		word := "at most"
		if g.least {
			word = "at least"
		}
		measured, verdict := "–", "NOT MEASURED"
		if all := r.values[measure{g.benchmark, g.unit}]; len(all) > 0 {
			v := median(all)
			measured = strconv.FormatFloat(v, 'f', digits(v), 64)
			if verdict = "NOT MET"; (g.least && v >= g.limit) || (!g.least && v <= g.limit) {
				verdict = "met"
				met++
			}
		} else {
			missing++
		}
		fmt.Fprintf(t, "%s\t%s\t%s %g %s\t%s\n", g.measure, measured, word, g.limit, g.shown, verdict)
	}
	_ = t.Flush()
	fmt.Fprintf(r.w, "\n%d of %d goals met, %d not measured\n", met, len(r.goals), missing)
	return missing == 0 && !r.failed
}

func digits(v float64) int {
	if v >= 20 {
		return 0
	}
	return 2
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

package judge

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/lemnis/lemnis/services/deployer/canary"
)

// Print writes the judgement for people.
func (j Judgement) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "tick\tcanary failed\tbaseline failed\tweight\tevidence\tfor it\tverdict\t")
	for _, l := range j.Looks {
		fmt.Fprintf(w, "%d\t%s\t%s\t%.3g %%\t%s\t%.3g\t%s\t\n", l.Tick, failed(l.Canary), failed(l.Baseline), 100*l.Weight, evidence(l.Parts, l.Evidence), l.Support, l.Outcome)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if j.Past > 0 {
		fmt.Fprintf(out, "the %d ticks before the canary's first request are the baseline's past\n", j.Past)
	}
	fmt.Fprintf(out, "\n%s at tick %d: %s\n", j.Verdict, j.Tick, j.Reason)
	fmt.Fprintf(out, "evidence %.4g, exposed %d requests", j.Evidence, j.Exposed)
	if j.Needed > 0 {
		fmt.Fprintf(out, ", about %d more needed", j.Needed)
	}
	if j.Left > 0 {
		fmt.Fprintf(out, "; the %d ticks after it were not looked at", j.Left)
	}
	_, err := fmt.Fprintln(out)
	return err
}

func failed(m canary.Minute) string { return fmt.Sprintf("%d/%d", m.Errors, m.Requests) }

// evidence is the whole, and what it is made of where that is more than errors.
func evidence(parts []canary.Part, whole float64) string {
	text := fmt.Sprintf("%.3g", whole)
	if len(parts) < 2 {
		return text
	}
	for i, p := range parts {
		sign := ", "
		if i == 0 {
			sign = " ("
		}
		text += fmt.Sprintf("%s%s %.3g", sign, p.Name, p.Evidence)
	}
	return text + ")"
}

// Print writes the comparison for people.
func (c Comparison) Print(out io.Writer) error {
	v := c.Compared
	_, err := fmt.Fprintf(out, "p of level %.3g, spread %.3g, tail %.3g; of all together %.3g\n\n%s: %s\nevidence %.4g, exposed %d samples\n",
		v.Level, v.Spread, v.Tail, v.P, c.Verdict, c.Reason, c.Evidence, c.Exposed)
	return err
}

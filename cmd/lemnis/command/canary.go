package command

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/cmd/lemnis/judge"
	"github.com/lemnis/lemnis/services/deployer/canary/sample"
)

// codeBad and codeHold are what --exit-code ends with.
const (
	codeBad  = 3
	codeHold = 4
)

func newCanary() *cobra.Command {
	return group(&cobra.Command{Use: "canary", Short: "Judge recorded canaries"}, newJudge())
}

// judging is what the command line says.
type judging struct {
	counts   judge.Options
	samples  sample.Policy
	worse    string
	metric   metricFlag
	output   string
	exitCode bool
}

// metricFlag takes --metric FILE, --metric=FILE and FILE --metric.
type metricFlag struct {
	on   bool
	file string
}

func (m *metricFlag) String() string   { return m.file }
func (m *metricFlag) Type() string     { return "bool" } // pflag: the value is optional
func (m *metricFlag) IsBoolFlag() bool { return true }

func (m *metricFlag) Set(s string) error {
	m.on = s != "false"
	if s != "true" && s != "false" {
		m.file = s
	}
	return nil
}

func newJudge() *cobra.Command {
	j := &judging{}
	c := &cobra.Command{
		Use: "judge FILE", Short: "Judge recorded counts, or raw samples, of a canary and its baseline",
		Long: "Judge a recorded canary, as the deployer judges one that runs. Nothing has to be running. FILE may be - for the standard input.\n\n" +
			"Counts are CSV with the header tick,version,requests,errors and then any number of cumulative latency buckets, named\n" +
			"le_<seconds>; version is canary or baseline. Each row counts what happened in its tick. Ticks before the canary's\n" +
			"first request are the baseline's past. It ends with promote, rollback or hold.\n\n" +
			"With --metric the file holds raw samples of one metric, version,value, and it ends with bad (the canary is worse in level or\n" +
			"in spread), good, or hold (too few to tell).",
		Example: "  lemnis canary judge counts.csv\n  lemnis canary judge counts.csv --tick 10s --deadline 30m --tolerance 0.1 --output json\n  lemnis canary judge --metric latency.csv --worse higher",
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"csv"}, cobra.ShellCompDirectiveFilterFileExt
		},
		Args: func(c *cobra.Command, args []string) error {
			if j.metric.file != "" && len(args) == 0 {
				return nil
			}
			if j.metric.file != "" {
				return usage("--metric=%s and %s: there may be one file", j.metric.file, args[0])
			}
			return exactly("FILE")(c, args)
		},
		RunE: j.run,
	}
	f := c.Flags()
	f.VarPF(&j.metric, "metric", "", "the file holds raw samples of one metric: version,value").NoOptDefVal = "true"
	f.StringVarP(&j.output, "output", "o", "text", "text or json")
	f.BoolVar(&j.exitCode, "exit-code", false, "end with 3 for rollback or bad, 4 for hold; otherwise every verdict ends with 0")
	f.DurationVar(&j.counts.Tick, "tick", time.Minute, "length of a tick")
	f.Float64Var(&j.counts.Weight, "weight", 0, "share of users on the canary, 0 to 1; 0 takes its share of each tick's requests")
	p := &j.counts.Policy
	f.Float64Var(&p.Alpha, "alpha", 0, "probability of a false rollback (0.01), or of a false bad (0.02)")
	f.Float64Var(&p.Beta, "beta", 0.05, "probability of promoting a canary that is twice as bad")
	f.Float64Var(&p.Tolerance, "tolerance", 0, "how much slower, or worse in a metric, it may be: 0.1 is a tenth")
	f.DurationVar(&p.Deadline, "deadline", time.Hour, "when it is judged at the latest")
	f.Float64Var(&p.SLO, "objective", 0.999, "share of requests that shall succeed: the ramp keeps its budget")
	f.Float64Var(&p.Floor, "floor", 0.0005, "error rate that needs no comparison")
	f.Float64Var(&p.Regression, "regression", 0.01, "rise of the error rate that must have had its chance to be seen before the deadline promotes")
	f.Float64Var(&p.PromoteWeight, "promote-weight", 0.25, "least share of users that must see it before it is promoted")
	f.StringVar(&j.worse, "worse", "higher", "which way of a metric is worse: higher, lower or either")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))             // fails for an unknown flag only
	_ = c.RegisterFlagCompletionFunc("worse", cobra.FixedCompletions([]string{"higher", "lower", "either"}, cobra.ShellCompDirectiveNoFileComp)) // fails for an unknown flag only
	return c
}

func (j *judging) check(c *cobra.Command) error {
	p := &j.counts.Policy
	for _, f := range []struct {
		name  string
		value float64
		most  float64
	}{
		{"alpha", p.Alpha, 1}, {"beta", p.Beta, 1}, {"tolerance", p.Tolerance, 100}, {"objective", p.SLO, 1}, {"floor", p.Floor, 1},
		{"regression", p.Regression, 1}, {"promote-weight", p.PromoteWeight, 1}, {"weight", j.counts.Weight, 1},
	} {
		if !c.Flags().Changed(f.name) {
			continue
		}
		switch f.name {
		case "tolerance", "weight":
			if !(f.value >= 0 && f.value <= f.most) {
				return usage("--%s %g: it may be 0 to %g", f.name, f.value, f.most)
			}
		case "alpha", "beta": // at 1 nothing would have to be shown
			if !(f.value > 0 && f.value < f.most) {
				return usage("--%s %g: it may be more than 0, and less than %g", f.name, f.value, f.most)
			}
		default:
			if !(f.value > 0 && f.value <= f.most) {
				return usage("--%s %g: it may be more than 0, and %g at most", f.name, f.value, f.most)
			}
		}
	}
	switch {
	case j.counts.Tick <= 0:
		return usage("--tick %s: it has to be more than 0", j.counts.Tick)
	case p.Deadline <= 0:
		return usage("--deadline %s: it has to be more than 0", p.Deadline)
	case j.output != "text" && j.output != "json":
		return usage("--output %q: it may be text or json", j.output)
	}
	switch w := sample.Worse(j.worse); w {
	case sample.Higher, sample.Lower, sample.Either:
		j.samples = sample.Policy{Alpha: p.Alpha, Tolerance: p.Tolerance, Worse: w}
	default:
		return usage("--worse %q: it may be higher, lower or either", j.worse)
	}
	if c.Flags().Changed("worse") && !c.Flags().Changed("metric") {
		return usage("--worse is of --metric: counts are judged by errors and latency")
	}
	return nil
}

// result is what both ways of judging end with.
type result interface{ Print(out io.Writer) error }

func (j *judging) run(c *cobra.Command, args []string) error {
	if err := j.check(c); err != nil {
		return err
	}
	name := j.metric.file
	if len(args) > 0 {
		name = args[0]
	}
	in := c.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("recorded canary: %w", err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	verdict, r, err := j.judge(name, in)
	if err != nil {
		return err
	}
	if j.output == "json" {
		// One line, so that it is read whole or by its last line.
		err = json.NewEncoder(c.OutOrStdout()).Encode(r)
	} else {
		err = r.Print(c.OutOrStdout())
	}
	code := map[string]int{"rollback": codeBad, "bad": codeBad, "hold": codeHold}[verdict]
	if err == nil && j.exitCode && code != 0 {
		return &exitError{code: code}
	}
	return err
}

func (j *judging) judge(name string, in io.Reader) (string, result, error) {
	if j.metric.on {
		r, err := judge.Samples(name, in, j.samples)
		return string(r.Verdict), r, err
	}
	r, err := judge.Counts(name, in, j.counts)
	return string(r.Verdict), r, err
}

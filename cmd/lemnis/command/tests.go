package command

import (
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/pkg/events"
)

func newTests(f *flags) *cobra.Command {
	var q api.TestQuery
	var since time.Duration
	var flaky, failing bool
	var output string
	c := &cobra.Command{
		Use: "tests [NAME]", Short: "Show how often each test case ran, failed, and was flaky", Args: atMost("NAME"),
		Long: "Show how often each test case ran, failed, and was flaky (failed and passed on the same commit), by the pipeline runs of the project,\n" +
			"the flaky ones first. Of those whose name contains NAME also how their last runs ended.",
		Example: "  lemnis tests --project shop --flaky\n" +
			"  lemnis tests TestCheckout --project shop --since 48h",
		RunE: func(c *cobra.Command, args []string) error {
			project, err := f.needProject()
			if err != nil {
				return err
			}
			if err := outputIs(output); err != nil {
				return err
			}
			if since < 0 {
				return usage("--since %s: how long ago is not negative", since)
			}
			if len(args) > 0 {
				q.Name = args[0]
			}
			if since > 0 {
				q.From = time.Now().Add(-since)
			}
			client := f.client()
			defer client.Close()
			raw, h, err := client.Tests(c.Context(), project, q)
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c, raw)
			}
			h.Tests = slices.DeleteFunc(h.Tests, func(t api.TestHistory) bool {
				return flaky && t.Flaky == 0 || failing && t.Outcome != events.TestFailed
			})
			return showTests(c, h)
		},
	}
	c.Flags().StringVar(&q.Repository, "repository", "", "only of this repository")
	c.Flags().DurationVar(&since, "since", 0, "by runs that ended this long ago at most, like 48h (default 14 days)")
	c.Flags().BoolVar(&flaky, "flaky", false, "only those that failed and passed on the same commit")
	c.Flags().BoolVar(&failing, "failing", false, "only those that failed when they ran last")
	outputFlag(c, &output)
	return c
}

func showTests(c *cobra.Command, h api.Tests) error {
	if len(h.Tests) == 0 {
		fmt.Fprintf(c.ErrOrStderr(), "lemnis: no such test case in %d runs since %s\n", h.Runs, h.From.Local().Format(time.DateTime))
		return nil
	}
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RUNS\tFAILED\tFLAKY\tSECONDS\tLAST\tREPOSITORY\tTEST")
	for _, t := range h.Tests {
		fmt.Fprintf(w, "%d\t%d\t%d\t%.3g\t%s\t%s\t%s\n", t.Runs, t.Failures, t.Flaky, t.Seconds, t.Outcome, t.Repository, t.Name)
		for _, r := range t.Results {
			fmt.Fprintf(w, "\t\t\t%.3g\t%s\t%s\t%.12s, %s\n", r.Seconds, r.Outcome, r.Run, r.Commit, r.At.Local().Format(time.DateTime))
		}
	}
	return w.Flush()
}

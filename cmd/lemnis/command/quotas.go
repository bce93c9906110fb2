package command

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func newQuotas(f *flags) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "quotas", Short: "What projects use of what they may; the file quotas.yaml in the gateway's data folder says what that is", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := outputIs(output); err != nil {
				return err
			}
			client := f.client()
			defer client.Close()
			raw, projects, err := client.Quotas(c.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c, raw)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "PROJECT\tQUOTA\tUSED\tMAY USE")
			for _, p := range projects {
				for _, q := range p.Quotas {
					may := "any number"
					if q.Limit > 0 {
						may = fmt.Sprint(q.Limit)
					}
					fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", p.Project, q.Of, q.Used, may)
				}
			}
			return w.Flush()
		},
	}
	outputFlag(c, &output)
	return c
}

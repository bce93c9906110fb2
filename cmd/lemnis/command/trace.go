package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/cmd/lemnis/show"
)

func newTrace(f *flags) *cobra.Command {
	var ticks bool
	c := &cobra.Command{
		Use: "trace CHAIN", Short: "Draw a turn of the loop as the tree of what caused what", Args: exactly("CHAIN"),
		Long: "Draw the events of a chain as the tree of what caused what, each with the time since the first.\n" +
			"A dotted line leads to a fact that came of a service's own work (a build, a deployment).",
		RunE: func(c *cobra.Command, args []string) error {
			chain, err := f.client().Events(c.Context(), api.Query{Project: f.project, Chain: args[0]})
			if err != nil {
				return err
			}
			if len(chain) == 0 {
				return fmt.Errorf("there is no event of the chain %q", args[0])
			}
			return show.Tree(c.OutOrStdout(), chain, ticks)
		},
	}
	c.Flags().BoolVar(&ticks, "ticks", false, "also each tick of a canary, not only how many there were")
	return c
}

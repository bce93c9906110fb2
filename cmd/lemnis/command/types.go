package command

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/pkg/events"
)

func newTypes() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "types", Short: "List the catalogue of event types, their phases, and who may claim them", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if output == "json" {
				return typesAsJSON(c)
			}
			if err := outputIs(output); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "PHASE\tSHORT\tWHO MAY CLAIM IT\tTYPE")
			for _, p := range append(events.Phases(), "") {
				for _, e := range events.Catalogue() {
					if e.Phase == p {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", phaseName(p), e.Type.Short(), claimant(e), e.Type)
					}
				}
			}
			return w.Flush()
		},
	}
	outputFlag(c, &output)
	return c
}

func phaseName(p events.Phase) string {
	if p == "" {
		return "any"
	}
	return string(p)
}

func claimant(e events.Entry) string {
	switch {
	case !e.Claimable:
		return "nobody: a service says it"
	case e.Open:
		return "anybody"
	}
	return "whoever owns the phase"
}

func typesAsJSON(c *cobra.Command) error {
	encoder := json.NewEncoder(c.OutOrStdout())
	for _, e := range events.Catalogue() {
		err := encoder.Encode(map[string]any{"type": e.Type, "short": e.Type.Short(), "phase": phaseName(e.Phase), "claimedBy": claimant(e)})
		if err != nil {
			return err
		}
	}
	return nil
}

func outputFlag(c *cobra.Command, output *string) {
	c.Flags().StringVarP(output, "output", "o", "text", "text or json")
}

func outputIs(output string) error {
	if output != "text" && output != "json" {
		return usage("--output %q: it may be text or json", output)
	}
	return nil
}

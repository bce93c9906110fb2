package command

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

func newShow(f *flags) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show one event, by its id", Args: exactly("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			raw, err := f.client().Event(c.Context(), args[0])
			if err != nil {
				return err
			}
			return printJSON(c, raw)
		},
	}
}

// printJSON writes JSON as people read it.
func printJSON(c *cobra.Command, raw json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return fmt.Errorf("the answer is no JSON: %w", err)
	}
	fmt.Fprintln(c.OutOrStdout(), b.String())
	return nil
}

package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/cmd/lemnis/show"
	"github.com/lemnis/lemnis/pkg/events"
)

func newTail(f *flags) *cobra.Command {
	var output, typ, phase, chain string
	var from int64
	c := &cobra.Command{
		Use: "tail", Short: "Follow claims and facts as they come", Args: exactly(),
		Long: "Follow claims and facts as they come, until Ctrl-C. With -o json each line is one structured CloudEvent.",
		Example: "  lemnis events tail --project shop\n" +
			"  lemnis events tail --from 0 --type service.published -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := outputIs(output); err != nil {
				return err
			}
			q := api.Query{Project: f.project, Type: typ, Phase: events.Phase(phase), Chain: chain, After: uint64(max(from, 0)), FromNow: from < 0}
			err := f.client().FollowRaw(c.Context(), q, func(e events.Event, structured []byte) error {
				line := structured
				if output == "text" {
					line = []byte(show.Line(e, time.Local))
				}
				_, err := fmt.Fprintf(c.OutOrStdout(), "%s\n", line)
				return err
			})
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
	}
	outputFlag(c, &output)
	c.Flags().StringVar(&typ, "type", "", "only this type, short or in full")
	c.Flags().StringVar(&phase, "phase", "", "only this phase")
	c.Flags().StringVar(&chain, "chain", "", "only this turn of the loop")
	c.Flags().Int64Var(&from, "from", -1, "begin behind this sequence; 0 is the beginning; without it: now")
	return c
}

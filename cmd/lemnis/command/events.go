package command

import "github.com/spf13/cobra"

func newEvents(f *flags) *cobra.Command {
	return group(&cobra.Command{Use: "events", Short: "Follow, publish, show and trace events"},
		newTail(f), newPublish(f), newShow(f), newTrace(f), newTypes())
}

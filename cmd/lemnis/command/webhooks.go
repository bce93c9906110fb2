package command

import "github.com/spf13/cobra"

func newWebhooks(f *flags) *cobra.Command {
	unknown := &cobra.Command{
		Use: "unknown", Short: "List deliveries that no claim was made of, with their bodies", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := f.client().UnknownWebhooks(c.Context(), f.project)
			if err != nil {
				return err
			}
			return printJSON(c, all)
		},
	}
	return group(&cobra.Command{Use: "webhooks", Short: "What forges and Alertmanager send"}, unknown)
}

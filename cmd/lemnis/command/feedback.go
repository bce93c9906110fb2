package command

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
)

func newFeedback(f *flags) *cobra.Command {
	var one api.Feedback
	c := &cobra.Command{
		Use: "feedback TEXT", Short: "Say what you think of the product, as one of its users", Args: exactly("TEXT"),
		Example: `  lemnis feedback "the search is slow" --project shop --feature search --rating 2`,
		RunE: func(c *cobra.Command, args []string) error {
			project, err := f.needProject()
			if err != nil {
				return err
			}
			one.Project, one.Text, one.User = project, args[0], cmp.Or(one.User, me())
			client := f.client()
			defer client.Close()
			if err := client.Feedback(c.Context(), one); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), "thank you: your words are masked and encrypted under a key of your own")
			return nil
		},
	}
	c.Flags().StringVar(&one.User, "user", "", "whose feedback it is; the user of this machine without it")
	c.Flags().StringVar(&one.Feature, "feature", "", "feature that it is about")
	c.Flags().StringVar(&one.Service, "service", "", "service that it is about")
	c.Flags().Float64Var(&one.Rating, "rating", 0, "1 to 5")
	return c
}

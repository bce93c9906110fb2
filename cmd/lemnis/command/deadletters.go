package command

import "github.com/spf13/cobra"

func newDeadLetters(f *flags) *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List what failed for good, with the reason", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := f.client().DeadLetters(c.Context(), f.project)
			if err != nil {
				return err
			}
			return printJSON(c, all)
		},
	}
	one := &cobra.Command{
		Use: "show SEQUENCE", Short: "Show one of them whole", Args: exactly("SEQUENCE"),
		RunE: func(c *cobra.Command, args []string) error {
			letter, err := f.client().DeadLetter(c.Context(), args[0])
			if err != nil {
				return err
			}
			return printJSON(c, letter)
		},
	}
	return group(&cobra.Command{Use: "deadletters", Short: "What could not be handled"}, list, one)
}

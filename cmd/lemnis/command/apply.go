package command

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/internal/project"
)

func newApply(f *flags) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "apply -f FILE", Short: "Put a project's configuration in force", Args: exactly(),
		Long: "Read a project's configuration, claim it, and say which revision it became, or why it was refused.\nWhat is wrong with the file is told with line and column before anything is sent; - reads standard input.",
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return usage("which file? say -f FILE")
			}
			var text []byte
			var err error
			if file == "-" {
				text, err = io.ReadAll(c.InOrStdin())
			} else {
				text, err = os.ReadFile(file)
			}
			if err != nil {
				return err
			}
			p, err := project.Parse(file, text)
			if err != nil {
				return err
			}
			if f.project != "" && f.project != p.Name {
				return usage("%s configures %s, not %s", file, p.Name, f.project)
			}
			client := f.client()
			defer client.Close()
			revision, err := client.Apply(c.Context(), p, patience)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: revision %d is in force\n", p.Name, revision)
			return nil
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "project file")
	return c
}

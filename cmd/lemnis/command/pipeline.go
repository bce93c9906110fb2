package command

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/services/builder/definition"
)

func newPipeline() *cobra.Command {
	return group(&cobra.Command{
		Use: "pipeline", Short: "Show, run and import what is done with a commit",
		Long: "A repository's pipeline stands in " + definition.File + " at its root, or is detected from what the repository holds.\nNothing here needs a server.",
	}, newPipelineShow(), newPipelineRun(), newPipelineImport(), newPipelineSchema())
}

func newPipelineShow() *cobra.Command {
	var tasks bool
	var on definition.Occasion
	c := &cobra.Command{
		Use: "show [DIR]", Short: "Show the pipeline of a working copy", Args: atMost("DIR"),
		Long: "Show the pipeline of the working copy at DIR, here when left out: its " + definition.File + ", or what was detected.\n" +
			"The output is such a file itself: `lemnis pipeline show > " + definition.File + "` makes what was detected yours to edit.\n" +
			"With --tasks: what would be run, and after what, on an occasion that --branch, --change and --path describe.",
		RunE: func(c *cobra.Command, args []string) error {
			p, found, err := loadPipeline(args)
			if err != nil {
				return err
			}
			if !tasks {
				return printPipeline(c.OutOrStdout(), found, p)
			}
			all, err := p.Tasks(c.Context(), on)
			if err != nil {
				return err
			}
			for _, t := range all {
				after := ""
				if len(t.Needs) > 0 {
					after = " after " + strings.Join(t.Needs, ", ")
				}
				fmt.Fprintf(c.OutOrStdout(), "%s%s\n", t.Name, after)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&tasks, "tasks", false, "show the tasks, in an order in which they can be run")
	c.Flags().StringVar(&on.Branch, "branch", "main", "the master copy's branch")
	c.Flags().StringVar(&on.Change, "change", "", "id of a change; the master copy itself when left out")
	c.Flags().StringArrayVar(&on.Paths, "path", nil, "file that the change touches; may be said again")
	return c
}

// loadPipeline reads the pipeline of a working copy. Links do not lead out of it.
func loadPipeline(args []string) (definition.Pipeline, []string, error) {
	dir := "."
	if len(args) > 0 {
		dir = args[0]
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return definition.Pipeline{}, nil, err
	}
	defer func() { _ = root.Close() }()
	return definition.Load(root.FS(), "")
}

func printPipeline(out io.Writer, found []string, p definition.Pipeline) error {
	text, err := definition.Encode(p)
	if err != nil {
		return err
	}
	for _, line := range found {
		fmt.Fprintf(out, "# %s\n", line)
	}
	_, err = out.Write(text)
	return err
}

func newPipelineImport() *cobra.Command {
	return &cobra.Command{
		Use: "import FILE", Short: "Make a pipeline of a Woodpecker workflow", Args: exactly("FILE"),
		Long: "Read a workflow of Woodpecker CI and print the same as a " + definition.File + ".\nWhat has no like here is told on standard error, each with its place; - reads standard input.",
		RunE: func(c *cobra.Command, args []string) error {
			var text []byte
			var err error
			if args[0] == "-" {
				text, err = io.ReadAll(c.InOrStdin())
			} else {
				text, err = os.ReadFile(args[0])
			}
			if err != nil {
				return err
			}
			p, told, err := definition.Woodpecker(text)
			for _, line := range told {
				fmt.Fprintf(c.ErrOrStderr(), "%s: %s\n", args[0], line)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return printPipeline(c.OutOrStdout(), nil, p)
		},
	}
}

func newPipelineSchema() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of " + definition.File + ", for editors", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := definition.Schema()
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(text)
			return err
		},
	}
}

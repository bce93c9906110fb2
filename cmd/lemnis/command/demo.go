package command

import (
	"cmp"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/cmd/lemnis/demo"
	"github.com/lemnis/lemnis/cmd/lemnis/lap"
	"github.com/lemnis/lemnis/internal/service"
)

// codePartial says that the lap ended after integrate, since nothing was there to deploy.
const codePartial = 3

func newDemo() *cobra.Command {
	var o demo.Options
	c := &cobra.Command{
		Use: "demo", Short: "Turn the whole loop once on a real repository, and show it", Args: exactly(),
		Long: "Start everything on a temporary folder and free ports, and turn the whole loop once: on a small web shop that it\n" +
			"creates, or on a copy of a Go repository of yours whose program serves HTTP on $PORT.\n\n" +
			"Exit code 0: the lap closed; 1: it did not, and the step is named; 3: the program serves nothing, so that the lap ended\n" +
			"after integrate.",
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Repo == "" && (o.Main != "" || o.Bad != "" || o.Path != "") {
				return usage("--main, --bad and --path speak of a repository: say which by --repo")
			}
			log, err := service.NewLog(cmp.Or(os.Getenv("LEMNIS_LOG"), "error"))
			if err != nil {
				return usage("LEMNIS_LOG: %v", err)
			}
			o.Out, o.Log = c.OutOrStdout(), log
			err = demo.Run(c.Context(), o)
			if errors.Is(err, lap.ErrPartial) {
				return &exitError{codePartial, err}
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Repo, "repo", "", "a Go repository of yours, instead of the demo's shop; it is only read")
	f.StringVar(&o.Main, "main", "", "its main package, like ./cmd/api")
	f.StringVar(&o.Bad, "bad", "", "its ref that fails under traffic; without one the proxy fails it, on purpose")
	f.StringVar(&o.Path, "path", "", "its address that answers 2xx; /healthz where the source names it, else /")
	f.BoolVar(&o.Keep, "keep", false, "leave it running, with the dashboard")
	return c
}

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

func newDemo(of *flags) *cobra.Command {
	var o demo.Options
	var r demo.Remote
	remote := false
	c := &cobra.Command{
		Use: "demo", Short: "Turn the whole loop once on a real repository, and show it", Args: exactly(),
		Long: "Start everything on a temporary folder and free ports, and turn the whole loop once: on a small web shop that it\n" +
			"creates, or on a copy of a Go repository of yours whose program serves HTTP on $PORT.\n\n" +
			"Exit code 0: the lap closed; 1: it did not, and the step is named; 3: the program serves nothing, so that the lap ended\n" +
			"after integrate.\n\n" +
			"With --remote it is turned on the installation that --server names, in a project of its own. Where that asks for tokens, an\n" +
			"administrator's is needed: the people of the lap get tokens of their own, which end with it.",
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Repo == "" && (o.Main != "" || o.Bad != "" || o.Path != "") {
				return usage("--main, --bad and --path speak of a repository: say which by --repo")
			}
			if !remote && (r.Origin != "" || r.Pager != "" || r.PagerHost != "") || remote && o.Keep {
				return usage("--origin, --pager and --pager-host speak of a running installation (--remote), --keep of the demo's own")
			}
			log, err := service.NewLog(cmp.Or(os.Getenv("LEMNIS_LOG"), "error"))
			if err != nil {
				return usage("LEMNIS_LOG: %v", err)
			}
			o.Out, o.Log = c.OutOrStdout(), log
			if remote {
				r.Server, r.Access, r.Known = of.server, of.access.options, of.access.known
				err = demo.RunRemote(c.Context(), o, r)
			} else {
				err = demo.Run(c.Context(), o)
			}
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
	f.BoolVar(&remote, "remote", false, "on the running installation that --server names, instead of one of its own")
	f.StringVar(&r.Origin, "origin", "", "with --remote: folder for the repository, which the installation's builder sees under the same path")
	f.StringVar(&r.Pager, "pager", "", "with --remote: host:port to listen on for the message of the incident; a free port on loopback")
	f.StringVar(&r.PagerHost, "pager-host", "", "with --remote: the name by which the installation's monitor reaches it")
	return c
}

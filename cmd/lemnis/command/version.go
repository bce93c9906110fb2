package command

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which version this is", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			fmt.Fprintln(c.OutOrStdout(), version())
			return nil
		},
	}
}

// version is what the go command put into the program: the module's version, else the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "lemnis, unknown version"
	}
	text := "lemnis " + info.Main.Version
	dirty := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			text += ", commit " + s.Value
		case "vcs.time":
			text += " of " + s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = ", with uncommitted changes"
			}
		}
	}
	return text + dirty + ", " + info.GoVersion
}

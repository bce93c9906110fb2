package command

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/cmd/lemnis/doctor"
)

func newDoctor(f *flags) *cobra.Command {
	var bus busFlags
	var redis, output string
	var health []string
	c := &cobra.Command{
		Use: "doctor", Short: "Say what is wrong with an installation, and what mends it", Args: exactly(),
		Long: "Look at an installation from the outside: gateway, bus, streams, consumers, owners, dead letters, clocks, certificates,\ntokens, registry, disk. Nothing is changed. It exits with 0 when all is well, with 1 when something was found.",
		Example: "  lemnis doctor --data /var/lib/lemnis --token-file /var/lib/lemnis/admin.token\n" +
			"  lemnis doctor --nats nats://bus:4222 --nats-key services.nk --redis redis://redis:6379/0 \\\n    --health http://planner:8081 --health http://builder:8081",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := outputIs(output); err != nil {
				return err
			}
			at, err := bus.address(f)
			if err != nil {
				return err
			}
			client := f.client()
			defer client.Close()
			r := doctor.Examine(c.Context(), doctor.Options{Client: client, Bus: at, Health: health, Redis: redis})
			if output == "json" {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				if err := e.Encode(r); err != nil {
					return err
				}
			} else {
				showReport(c.OutOrStdout(), r)
			}
			if !r.Healthy {
				return &exitError{code: codeFailed}
			}
			return nil
		},
	}
	bus.add(c)
	c.Flags().StringArrayVar(&health, "health", nil, "URL of a service's health (LEMNIS_HTTP of its process); may be given several times")
	addressVar(c.Flags(), &redis, "redis", os.Getenv("LEMNIS_REDIS_URL"), "Redis of the installation ($LEMNIS_REDIS_URL)")
	outputFlag(c, &output)
	return c
}

func showReport(w io.Writer, r doctor.Report) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, one := range r.Checks {
		fmt.Fprintf(table, "%s\t%s\t%s\n", one.State, one.Name, one.Detail)
	}
	_ = table.Flush() // to the terminal, which is there or is not
	for _, one := range r.Findings {
		fmt.Fprintf(w, "\n%s: %s\n  why   %s\n  mend  %s\n", strings.ToUpper(one.Severity), one.What, one.Why, one.Mend)
	}
	if r.Healthy {
		fmt.Fprintln(w, "\nAll is well.")
	}
}

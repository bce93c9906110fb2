package command

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/cmd/lemnis/reach"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// shortest is how long events are kept at least: for as long a reader may be behind that is not cut off from the bus.
const shortest = time.Hour

func newRetain(f *flags) *cobra.Command {
	var bus busFlags
	var keep string
	var off, dry bool
	c := &cobra.Command{
		Use: "retain --keep AGE", Short: "Let events go that are older, once every fold of them is kept", Args: exactly(),
		Long: "Let events of LIFECYCLE go that are older than an age, for good. From the first time on, each phase and the gateway keep their\n" +
			"folds on the bus every ten minutes; events go up to what all of them have kept twice, and what no effect still works on. Run it\n" +
			"again and again, once a day say: each time it purges what may go by then, and says what holds back more.",
		Example: "  lemnis retain --keep 90d --data /var/lib/lemnis\n" +
			"  lemnis retain --keep 90d --nats nats://bus:4222 --nats-key services.nk\n" +
			"  lemnis retain --off --data /var/lib/lemnis",
		RunE: func(c *cobra.Command, _ []string) error {
			if (keep == "") == !off {
				return usage("%s: say either --keep AGE, such as 90d, or --off", c.CommandPath())
			}
			var age time.Duration
			if !off {
				var err error
				if age, err = parseAge(keep); err != nil || age < shortest {
					return usage("--keep %q is no age of an hour or more, such as 90d or 12h", keep)
				}
			}
			at, err := bus.address(f)
			if err != nil {
				return err
			}
			b, err := reach.Open(at)
			if err != nil {
				return err
			}
			defer b.Close()
			js, err := jetstream.New(b.Conn)
			if err != nil {
				return err
			}
			if dry {
				return retain(c, service.Host{Conn: b.Conn, JS: js}, age, true)
			}
			if err := natsd.SetRetain(c.Context(), js, age); err != nil {
				return err
			}
			if off {
				fmt.Fprintln(c.OutOrStdout(), "no more events go; those that went stay gone")
				return nil
			}
			return retain(c, service.Host{Conn: b.Conn, JS: js}, age, false)
		},
	}
	bus.add(c)
	c.Flags().StringVar(&keep, "keep", "", "how long events are kept at least, like 90d")
	c.Flags().BoolVar(&off, "off", false, "keep all from now on")
	c.Flags().BoolVar(&dry, "dry-run", false, "say what would go, and change nothing")
	return c
}

func retain(c *cobra.Command, h service.Host, keep time.Duration, dry bool) error {
	ctx, cancel := context.WithTimeout(c.Context(), 5*time.Minute)
	defer cancel()
	names := []string{"gateway"}
	for _, phase := range events.Phases() {
		names = append(names, string(phase))
	}
	p, err := service.PlanPurge(ctx, h, keep, names)
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	switch {
	case p.UpTo < p.First:
		fmt.Fprintf(out, "nothing goes: %s\n", p.HeldBy)
		return nil
	case dry:
		fmt.Fprintf(out, "%d to %d would go; %s\n", p.First, p.UpTo, p.HeldBy)
		return nil
	}
	if err := p.Do(ctx, h); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d to %d are gone; %s\n", p.First, p.UpTo, p.HeldBy)
	return nil
}

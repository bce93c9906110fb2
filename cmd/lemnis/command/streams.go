package command

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/internal/privacy"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/services/gateway/access"
)

func newStreams() *cobra.Command {
	env := service.Environment{Log: "warn"}
	patience := 2 * time.Minute
	c := &cobra.Command{
		Use: "streams", Short: "Make the streams and buckets on a nats-server of your own, or bring them up to date", Args: exactly(),
		Long: "Make what is missing of the streams and buckets that the services share, and bring up to date what is there. A service's own\n" +
			"key may look at them, not make them: this is run with the installation's key (services.nk) before the services are,\n" +
			"at the first start and at each upgrade. Run again it changes nothing.",
		Example: "  lemnis streams --nats nats://nats:4222 --nats-key services.nk --replicas 3",
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := service.NewLog(env.Log)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), patience)
			defer cancel()
			host, done, err := env.Connect(ctx, log, nil)
			if err != nil {
				return fmt.Errorf("streams: %w", err)
			}
			defer done()
			if _, err := privacy.NewVault(ctx, host.JS, env.Replicas); err != nil {
				return fmt.Errorf("streams: %w", err)
			}
			if _, err := access.Open(ctx, host.JS, env.Replicas, log); err != nil {
				return fmt.Errorf("streams: %w", err)
			}
			fmt.Fprintf(c.OutOrStdout(), "the streams are there, %d replicas, identity %s\n", env.Replicas, host.Stream)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&env.NATS, "nats", "nats://127.0.0.1:4222", "URL of the server; several of a cluster, separated by commas")
	f.StringVar(&env.Key, "nats-key", "", "file with the installation's key, services.nk")
	f.IntVar(&env.Replicas, "replicas", 1, "copies of each stream: 1, or 3 in a cluster")
	f.DurationVar(&patience, "patience", patience, "how long the server may take to be there")
	return c
}

package command

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/lemnis/lemnis/cmd/lemnis/up"
	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/internal/secret"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/services/builder"
	"github.com/lemnis/lemnis/services/deployer"
)

func newUp() *cobra.Command {
	var o up.Options
	auth := os.Getenv("LEMNIS_AUTH")
	private := os.Getenv(outward.Variable)
	level := cmp.Or(os.Getenv("LEMNIS_LOG"), "warn")
	c := &cobra.Command{
		Use: "up", Short: "Run everything in one process", Args: exactly(),
		Long: "Run bus, store, the services of the six phases, the gateway and the dashboard in one process.\nSIGTERM or Ctrl-C drains it, and ends what it has deployed; what it has stated survives any end. When it is killed, what is deployed goes on\nserving users for $LEMNIS_FRONT_ALONE (default 10m), and the next start on the same data takes it over.",
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := service.NewLog(level)
			if err != nil {
				return usage("--log: %v", err)
			}
			if o.PrivateSinks, err = outward.Parse(private); err != nil {
				return usage("--allow-private-sinks: %v", err)
			}
			if o.Auth, err = authWanted(auth); err != nil {
				return err
			}
			o.Log, o.NATSKey, o.SecretsDir = log, os.Getenv("LEMNIS_NATS_KEY_FILE"), os.Getenv("LEMNIS_SECRETS_DIR")
			o.OSV = os.Getenv("LEMNIS_OSV")
			if o.Isolation, err = executor.ParseIsolation(os.Getenv("LEMNIS_ISOLATION")); err != nil {
				return usage("LEMNIS_ISOLATION: %v", err)
			}
			if o.Pipelines, err = builder.ParsePipelines(os.Getenv("LEMNIS_PIPELINES")); err != nil {
				return usage("LEMNIS_PIPELINES: %v", err)
			}
			if o.Public, err = builder.ParsePublic(os.Getenv("LEMNIS_PUBLIC_URL")); err != nil {
				return usage("LEMNIS_PUBLIC_URL: %v", err)
			}
			if o.Front, o.Alone, err = deployer.ReadFront(os.Getenv); err != nil {
				return usage("%v", err)
			}
			if o.Data == "" {
				if o.Data, err = defaultData(); err != nil {
					return err
				}
			}
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(50) // a bus, a store and six services share one heap, of which little is garbage
			}
			stack, err := up.New(c.Context(), o)
			if err != nil {
				return err
			}
			at := stack.Addresses()
			fmt.Fprintf(c.OutOrStdout(), "dashboard and HTTP  %s\nNATS                %s\ndata                %s\n", at.HTTP, secret.Redact(at.NATS), o.Data)
			if file := stack.AdminToken(); file != "" {
				fmt.Fprintf(c.OutOrStdout(), "first token         %s\n", file)
			}
			go func() {
				select {
				case <-stack.Ready():
					fmt.Fprintln(c.OutOrStdout(), "ready")
				case <-c.Context().Done():
				}
			}()
			return stack.Run(c.Context())
		},
	}
	f := c.Flags()
	f.StringVar(&o.Data, "data", os.Getenv("LEMNIS_DATA"), "folder for all that is kept ($LEMNIS_DATA; default: lemnis in the user's cache folder)")
	f.StringVar(&o.HTTP, "http", up.DefaultHTTP, "address of the gateway, on loopback without --auth; port 0 takes a free one")
	f.StringVar(&o.NATSListen, "nats-listen", up.DefaultNATS, "address for NATS clients, on loopback without --auth; port 0 takes a free one")
	addressVar(f, &o.NATS, "nats", os.Getenv("LEMNIS_NATS_URL"), "NATS server to use instead of the embedded one ($LEMNIS_NATS_URL)")
	addressVar(f, &o.Redis, "redis", os.Getenv("LEMNIS_REDIS_URL"), "Redis to use instead of the embedded store ($LEMNIS_REDIS_URL)")
	f.StringVar(&o.Config, "config", "", "project file to apply at start")
	f.StringVar(&o.Durability, "durability", "", "fsync: nothing is lost when the power fails, for fewer events a second")
	f.StringVar(&private, "allow-private-sinks", private, "ranges like 10.0.0.0/8 that subscriptions, alerts, forges' statuses and tests of TLS may go to although they are not public ($LEMNIS_ALLOW_PRIVATE_SINKS)")
	f.StringVar(&auth, "auth", auth, "ask everybody for a token; the first one is written to admin.token in the data folder ($LEMNIS_AUTH)")
	f.Lookup("auth").NoOptDefVal = "1"
	f.StringVar(&o.TLS.Cert, "tls-cert", os.Getenv("LEMNIS_TLS_CERT"), "certificate of HTTP and NATS, PEM ($LEMNIS_TLS_CERT)")
	f.StringVar(&o.TLS.Key, "tls-key", os.Getenv("LEMNIS_TLS_KEY"), "its key, PEM ($LEMNIS_TLS_KEY)")
	f.IntVar(&o.Limits.Requests, "limit-requests", 0, "requests of a token in ten seconds, with --auth; 0: 20000, -1: no limit")
	f.IntVar(&o.Limits.Events, "limit-events", 0, "events of a project in a day, with --auth; 0: 10000000, -1: no limit")
	f.StringVar(&o.Quotas, "quotas", os.Getenv("LEMNIS_QUOTAS"), "file of what projects may use ($LEMNIS_QUOTAS; default: quotas.yaml in the data folder, where there is one)")
	f.StringVar(&level, "log", level, "debug, info, warn or error ($LEMNIS_LOG)")
	return c
}

// defaultData is where data is kept when nobody says where.
func defaultData() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("there is no folder for data: name one with --data: %w", err)
	}
	return filepath.Join(cache, "lemnis"), nil
}

// Command lemnis-monitor runs the operate phase. It is configured by its environment: LEMNIS_NATS_URL, LEMNIS_NATS_KEY_FILE, LEMNIS_REDIS_URL,
// LEMNIS_REPLICAS, LEMNIS_HTTP (health and metrics; none when empty), LEMNIS_LOG,
// LEMNIS_SECRETS_DIR (webhooks that configurations call secret:<name>), LEMNIS_ALLOW_PRIVATE_SINKS (ranges of addresses, separated by
// commas, that webhooks may have although they are not public).
package main

import (
	"fmt"
	"os"

	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/services/monitor"
)

func main() {
	os.Exit(service.Main("lemnis-monitor", func(_ service.Environment, host service.Host) ([]service.Definition, error) {
		allow, err := outward.Parse(os.Getenv(outward.Variable))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", outward.Variable, err)
		}
		return []service.Definition{monitor.New(monitor.Options{Log: host.Log.Sugar().Infow, SecretsDir: os.Getenv("LEMNIS_SECRETS_DIR"), Allow: allow})}, nil
	}))
}

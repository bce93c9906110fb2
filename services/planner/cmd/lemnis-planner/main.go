// Command lemnis-planner runs the plan phase. It is configured by its environment: LEMNIS_NATS_URL, LEMNIS_NATS_KEY_FILE, LEMNIS_REDIS_URL,
// LEMNIS_REPLICAS, LEMNIS_HTTP (health and metrics; none when empty), LEMNIS_LOG.
package main

import (
	"os"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/services/planner"
)

func main() {
	os.Exit(service.Main("lemnis-planner", func(service.Environment, service.Host) ([]service.Definition, error) {
		return []service.Definition{planner.New()}, nil
	}))
}

// Command lemnis-feedback runs the learn phase. It is configured by its environment: LEMNIS_NATS_URL, LEMNIS_NATS_KEY_FILE, LEMNIS_REDIS_URL,
// LEMNIS_REPLICAS, LEMNIS_HTTP (health and metrics; none when empty), LEMNIS_LOG.
package main

import (
	"context"
	"os"
	"time"

	"github.com/lemnis/lemnis/internal/privacy"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/services/feedback"
)

func main() {
	os.Exit(service.Main("lemnis-feedback", func(_ service.Environment, host service.Host) ([]service.Definition, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		keys, err := privacy.NewVault(ctx, host.JS, host.Replicas)
		if err != nil {
			return nil, err
		}
		return []service.Definition{feedback.New(feedback.Options{Keys: keys})}, nil
	}))
}

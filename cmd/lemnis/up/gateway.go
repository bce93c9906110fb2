package up

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/services/gateway"
	"github.com/lemnis/lemnis/services/gateway/registry"
)

func newGateway(host service.Host, o Options) (*gateway.Gateway, error) {
	binaries, err := registry.New(filepath.Join(o.Data, "registry"), registry.Options{Log: host.Log})
	if err != nil {
		return nil, err
	}
	g, err := gateway.New(gateway.Options{Host: host, Registry: binaries})
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return g, nil
}

// gatewayReady waits until the gateway says so itself; false when ctx has ended.
func (s *Stack) gatewayReady(ctx context.Context) bool {
	client := api.New(s.URL())
	defer client.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if client.Ready(ctx) == nil {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

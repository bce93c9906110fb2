package up

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/lemnis/lemnis/internal/quota"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/services/gateway"
	"github.com/lemnis/lemnis/services/gateway/registry"
)

func (s *Stack) newGateway(ctx context.Context, host service.Host) (*gateway.Gateway, error) {
	o := s.options
	binaries, err := registry.New(filepath.Join(o.Data, "registry"), registry.Options{Log: host.Log})
	if err != nil {
		return nil, err
	}
	quotas, err := quota.Open(cmp.Or(o.Quotas, filepath.Join(o.Data, quota.FileName)), host.Log)
	if err != nil {
		return nil, err
	}
	options := gateway.Options{
		Host: host, Registry: binaries, Quotas: quotas, PrivateSinks: o.PrivateSinks, SigningSecrets: o.SecretsDir,
		Metrics: service.Collectors(s.services),
	}
	if err := s.lend(ctx, host, &options); err != nil {
		return nil, err
	}
	g, err := gateway.New(options)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return g, nil
}

// gatewayReady waits until the gateway says so itself; false when ctx has ended.
func (s *Stack) gatewayReady(ctx context.Context) bool {
	client := s.client()
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

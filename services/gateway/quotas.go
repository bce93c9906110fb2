package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/lemnis/lemnis/services/gateway/access"
)

// The names of quotas in metrics.
const (
	quotaOfEvents   = "events"
	quotaOfRegistry = "registry"
)

// withinQuota counts what is refused since a project has used its events up.
func (g *Gateway) withinQuota(project string, err error) error {
	var limit *access.LimitError
	if errors.As(err, &limit) {
		g.metrics.quotas.WithLabelValues(project, quotaOfEvents).Inc()
	}
	return err
}

// storage is a binary repository that knows what projects have in it.
type storage interface {
	// Usage is the bytes of each project.
	Usage() (map[string]int64, error)
	// Bound has projects bounded; full is told of each that was refused something.
	Bound(room func(project string) int64, full func(project string))
}

// boundStorage has the binary repository ask the quotas.
func (g *Gateway) boundStorage() {
	s, ok := g.registry.(storage)
	if !ok || g.quotas == nil {
		return
	}
	s.Bound(func(project string) int64 { return int64(g.quotas.Of(project).Registry) },
		func(project string) { g.metrics.quotas.WithLabelValues(project, quotaOfRegistry).Inc() })
}

// projectUsage is what a project uses of what it may.
type projectUsage struct {
	Project string         `json:"project"`
	Quotas  []access.Usage `json:"quotas"`
}

// listQuotas says what each project uses: those that were configured, that have a quota, or that have something stored.
func (g *Gateway) listQuotas(w http.ResponseWriter, r *http.Request) {
	all, err := g.usage(r.Context())
	if err != nil {
		g.fail(w, r, away(err))
		return
	}
	g.write(w, http.StatusOK, "application/json", map[string]any{"projects": all})
}

func (g *Gateway) usage(ctx context.Context) ([]projectUsage, error) {
	stored := map[string]int64{}
	if s, ok := g.registry.(storage); ok {
		var err error
		if stored, err = s.Usage(); err != nil {
			return nil, err
		}
	}
	quotas := g.quotas.All()
	names := g.overview.names()
	for name := range quotas.Projects {
		names = append(names, name)
	}
	for name := range stored {
		names = append(names, name)
	}
	slices.Sort(names)
	all := []projectUsage{}
	for _, name := range slices.Compact(names) {
		used, err := g.limiter.Events(ctx, name)
		if err != nil {
			return nil, err
		}
		if bytes := stored[name]; bytes > 0 || quotas.Of(name).Registry > 0 {
			used = append(used, access.Usage{Of: "bytes in the registry", Used: bytes, Limit: int64(quotas.Of(name).Registry)})
		}
		if used == nil {
			used = []access.Usage{}
		}
		all = append(all, projectUsage{name, used})
	}
	return all, nil
}

package monitor

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/monitor/health"
)

const (
	windowSize    = 10 // probes that a status rests on
	fewestProbes  = 3  // before the first status
	probeTimeout  = 2 * time.Second
	probesAtOnce  = 16
	degradedBelow = 0.9 // share of successful probes
	unhealthyFrom = 0.5 // and below
)

// prober is the duty that calls every target.
type prober struct {
	targets *targets
	every   time.Duration
	client  *http.Client
	log     func(string, ...any)
}

// watch is what the prober remembers of a target.
type watch struct {
	window   []observation
	reported string
}

type observation struct {
	failure string // empty: it succeeded
	took    time.Duration
}

func (p *prober) run(ctx context.Context, r *service.Reporter) error {
	started := time.Now().UnixNano() // tells this run's results from those of an earlier one
	watches := map[string]*watch{}
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for round := 0; ; round++ {
		p.round(ctx, watches, func(t target, c events.HealthChanged) error {
			once := fmt.Sprintf("%d/%d", started, round)
			return r.Report(ctx, t.project, t.chain, once, service.Report{
				Content: c, Key: health.Key(t.environment, t.service, t.feature), Phase: events.Operate,
			})
		})
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// round probes every target once and reports each status that changed.
func (p *prober) round(ctx context.Context, watches map[string]*watch, report func(target, events.HealthChanged) error) {
	groups := p.targets.list()
	var flat []target
	for _, g := range groups {
		flat = append(flat, g...)
	}
	seen := make([]observation, len(flat))
	var wg sync.WaitGroup
	slots := make(chan struct{}, probesAtOnce)
	for i, t := range flat {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			seen[i] = p.probe(ctx, t)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return // the probes were cut off: they say nothing
	}
	current := map[string]bool{}
	i := 0
	for _, g := range groups {
		wholeIsDown := false
		for _, t := range g {
			w := watches[t.key()]
			if w == nil {
				w = &watch{}
				watches[t.key()] = w
			}
			current[t.key()] = true
			w.window = append(w.window, seen[i])
			w.window = w.window[max(0, len(w.window)-windowSize):]
			i++
			// Of a service that is down, each feature is down: one incident tells it.
			if t.feature != "" && wholeIsDown || len(w.window) < fewestProbes {
				continue
			}
			c := summary(t, w.window)
			wholeIsDown = wholeIsDown || c.Status == events.Unhealthy
			if c.Status == w.reported {
				continue
			}
			if err := report(t, c); err != nil {
				p.log("health could not be reported", "target", t.key(), "error", err.Error()) // the next round tries again
				continue
			}
			w.reported = c.Status
		}
	}
	for key := range watches {
		if !current[key] {
			delete(watches, key)
		}
	}
}

// probe calls one target as a user would; always as the same user, so that it sees one version.
func (p *prober) probe(ctx context.Context, t target) observation {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return observation{failure: err.Error()}
	}
	request.Header.Set("X-User", "lemnis-monitor")
	request.Header.Set("User-Agent", "lemnis-monitor")
	start := time.Now()
	response, err := p.client.Do(request)
	took := time.Since(start)
	if err != nil {
		return observation{failure: err.Error(), took: took}
	}
	_, _ = io.CopyN(io.Discard, response.Body, 64<<10)
	_ = response.Body.Close()
	status := response.StatusCode
	// A service without the probed path is alive; a feature without its path is not there.
	if status >= 500 || t.feature != "" && status >= 400 && status != http.StatusUnauthorized && status != http.StatusForbidden {
		return observation{failure: fmt.Sprintf("%s answers %d", t.url, status), took: took}
	}
	return observation{took: took}
}

// summary judges a window.
func summary(t target, window []observation) events.HealthChanged {
	c := events.HealthChanged{Environment: t.environment, Service: t.service, Feature: t.feature, URL: t.url, Probes: len(window)}
	var took []time.Duration
	for _, o := range window {
		if o.failure == "" {
			took = append(took, o.took)
		} else {
			c.Reason = o.failure // the latest
		}
	}
	c.Availability = float64(len(took)) / float64(len(window))
	slices.Sort(took)
	if n := len(took); n > 0 {
		c.P50, c.P99 = took[(n-1)/2].Seconds(), took[(n*99-1)/100].Seconds()
	}
	switch {
	case c.Availability <= unhealthyFrom:
		c.Status = events.Unhealthy
	case c.Availability < degradedBelow:
		c.Status = events.Degraded
	default:
		c.Status = events.Healthy
	}
	return c
}

package deployer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/runtimetest"
)

// metered are the metrics of a service that the project wants its canaries judged by.
func metered(p events.Project, environment, service string) []events.Metric {
	e, _ := p.Environment(environment)
	if e.Canary == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(p.Metrics), func(m events.Metric) bool {
		return m.Service != service || !slices.Contains(e.Canary.Guards, m.Name)
	})
}

func previous(r events.Rollout) string {
	if r.Previous == nil {
		return ""
	}
	return r.Previous.Runs()
}

// counters reads what both versions count themselves.
type counters struct {
	metrics []events.Metric
	client  *http.Client
	every   time.Duration
	last    time.Time
	failed  int // in a row
}

const (
	// readEvery is how many ticks go by between two looks at what services count: it may be long.
	readEvery = 5
	// unread is how many looks in a row may fail: the process may be starting again. After them a canary has no guard.
	unread = 10
)

func newCounters(metrics []events.Metric, tick time.Duration) *counters {
	return &counters{metrics: metrics, every: readEvery * tick, client: &http.Client{
		Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a service sends the deployer nowhere
	}}
}

// read returns the totals of each metric, nil where it is not read now: what it counts then is in a later tick. The error says what
// can not be read any more. It is not called under the place's lock, so that nobody's way back waits for a slow answer.
func (c *counters) read(ctx context.Context, p *place, canary, baseline string) (map[string]*events.CanaryGuard, error) {
	all := map[string]*events.CanaryGuard{}
	for _, m := range c.metrics {
		all[m.Name] = nil
	}
	if len(all) == 0 || baseline == "" || time.Since(c.last) < c.every {
		return all, nil
	}
	c.last = time.Now()
	read := map[string]*events.CanaryGuard{}
	for _, m := range c.metrics {
		g, err := c.of(ctx, p, m, canary, baseline)
		if err != nil {
			if c.failed++; c.failed >= unread && ctx.Err() == nil {
				return nil, fmt.Errorf("the guard %s can not be counted: %w", m.Name, err)
			}
			return all, nil
		}
		read[m.Name] = &g
	}
	c.failed = 0
	return read, nil
}

func (c *counters) of(ctx context.Context, p *place, m events.Metric, canary, baseline string) (events.CanaryGuard, error) {
	g := events.CanaryGuard{Name: m.Name}
	for id, counts := range map[string]*events.Counts{canary: &g.Canary, baseline: &g.Baseline} {
		if err := p.mu.take(ctx); err != nil {
			return g, err
		}
		one := p.instances[id]
		p.mu.free()
		if one == nil {
			return g, fmt.Errorf("%s does not run", id)
		}
		found, err := runtimetest.Counters(ctx, c.client, one.url+m.At(), m.Total, m.Bad)
		var missing *runtimetest.NotCountedError
		if id == baseline && errors.As(err, &missing) {
			continue // a version of before the counter: it has no failures to compare with
		}
		if err != nil {
			return g, fmt.Errorf("%s: %w", id, err)
		}
		*counts = events.Counts{Requests: found[m.Total], Errors: found[m.Bad]}
	}
	return g, nil
}

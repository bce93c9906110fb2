package monitor

import (
	"cmp"
	"slices"
	"sync"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/monitor/health"
)

// targetTypes are the facts that say what has to be probed, and where.
var targetTypes = []events.Type{
	events.TypeOf(events.ServicePublished{}), events.TypeOf(events.ServiceRemoved{}), events.TypeOf(events.ProjectConfigured{}),
}

// target is one URL to probe.
type target struct {
	project, environment, service, feature string
	url                                    string
	chain                                  string // of the deployment, so that what is found there belongs to its turn of the loop
}

func (t target) key() string {
	return t.project + "/" + health.Key(t.environment, t.service, t.feature)
}

// targets is the read model of what serves users. A rollback changes nothing in it: the address is the proxy's.
type targets struct {
	mu       sync.Mutex
	services map[string]target
	projects map[string]events.Project
}

func newTargets() *targets {
	return &targets{services: map[string]target{}, projects: map[string]events.Project{}}
}

func (t *targets) apply(e events.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch c := e.Content.(type) {
	case events.ProjectConfigured:
		t.projects[e.Project] = c.Project
	case events.ServicePublished:
		r := c.Lemnis.Rollout
		s := target{project: e.Project, environment: r.Environment, service: r.Service, url: c.Lemnis.URL, chain: e.Chain}
		if s.url != "" && s.environment != "" && s.service != "" {
			t.services[s.key()] = s
		}
	case events.ServiceRemoved:
		r := c.Lemnis.Rollout
		delete(t.services, target{project: e.Project, environment: r.Environment, service: r.Service}.key())
	}
}

// probed is one service with its features, the service itself first.
type probed []target

// list is what to probe now.
func (t *targets) list() []probed {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []probed
	for _, s := range t.services {
		p, known := t.projects[s.project]
		if !known {
			p = events.DefaultProject(s.project)
		}
		if _, i := p.Environment(s.environment); i < 0 || !p.Runs(events.Operate) {
			continue
		}
		whole := s
		environment, _ := p.Environment(s.environment)
		path := "/healthz"
		if environment.Runtime != nil && len(environment.Runtime.Paths) > 0 {
			path = environment.Runtime.Paths[0]
		}
		whole.url += path
		group := probed{whole}
		for _, f := range p.Features {
			if f.Service == s.service {
				one := s
				one.feature, one.url = f.Name, s.url+f.Path
				group = append(group, one)
			}
		}
		all = append(all, group)
	}
	slices.SortFunc(all, func(a, b probed) int { return cmp.Compare(a[0].key(), b[0].key()) })
	return all
}

package monitor

import (
	"encoding/json"
	"maps"

	"github.com/lemnis/lemnis/pkg/events"
)

// savedTargets is the read model as a snapshot has it.
type savedTargets struct {
	Services []savedTarget             `json:"services"`
	Projects map[string]events.Project `json:"projects"`
}

type savedTarget struct {
	Project     string `json:"project"`
	Environment string `json:"environment"`
	Service     string `json:"service"`
	URL         string `json:"url"`
	Chain       string `json:"chain"`
}

func (t *targets) save() ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := savedTargets{Projects: t.projects}
	for _, one := range t.services {
		s.Services = append(s.Services, savedTarget{one.project, one.environment, one.service, one.url, one.chain})
	}
	return json.Marshal(s)
}

func (t *targets) load(text []byte) error {
	var s savedTargets
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.services)
	clear(t.projects)
	for _, one := range s.Services {
		of := target{project: one.Project, environment: one.Environment, service: one.Service, url: one.URL, chain: one.Chain}
		t.services[of.key()] = of
	}
	maps.Copy(t.projects, s.Projects)
	return nil
}

package deployer

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/rollout"
)

// savedWanted is wanted as a snapshot has it.
type savedWanted struct {
	Version  int                       `json:"version"` // of the rollouts' fold
	Places   []savedPlace              `json:"places"`
	Started  map[string]bool           `json:"started"`
	Projects map[string]events.Project `json:"projects"`
}

type savedPlace struct {
	Project string        `json:"project"`
	Key     string        `json:"key"`
	Last    uint64        `json:"last"`
	State   rollout.State `json:"state"`
}

func (w *wanted) save() ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := savedWanted{Version: rollout.Version, Started: w.started, Projects: w.projects}
	for place, state := range w.states {
		s.Places = append(s.Places, savedPlace{place.project, place.key, w.last[place], state})
	}
	return json.Marshal(s)
}

func (w *wanted) load(text []byte) error {
	var s savedWanted
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	if s.Version != rollout.Version {
		return fmt.Errorf("it holds version %d of rollouts, this program understands %d", s.Version, rollout.Version)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.states)
	clear(w.last)
	clear(w.started)
	clear(w.projects)
	for _, p := range s.Places {
		place := at{p.Project, p.Key}
		w.states[place], w.last[place] = p.State, p.Last
	}
	maps.Copy(w.started, s.Started)
	for name, p := range s.Projects {
		p.Name = name
		w.projects[name] = p
	}
	close(w.changed)
	w.changed = make(chan struct{})
	return nil
}

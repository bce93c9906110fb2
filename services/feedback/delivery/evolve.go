package delivery

import (
	"slices"

	"github.com/lemnis/lemnis/pkg/events"
)

const mostRemembered = 1000

// The relation by which a fact says what it counted, and the names of its tags.
const (
	counted  = "COUNTED"
	tagWhat  = "what"
	tagItem  = "item"
	rollout  = "rollout:"
	failure  = "failure:"
	incident = "incident:"
)

// Evolve folds a fact of the figures.
func Evolve(s State, fact events.Event) State {
	c, ok := fact.Content.(events.MetricsComputed)
	if !ok {
		return s
	}
	s.Figures, s.Lead, s.Recovery = c.Metrics, c.LeadTimes, c.RecoveryTimes
	for _, l := range fact.Links {
		if l.Kind != counted {
			continue
		}
		s.Counted = remember(s.Counted, l.Tags[tagWhat])
		s.Troubled = remember(s.Troubled, l.Tags[tagItem])
	}
	return s
}

func remember(all []string, id string) []string {
	if id == "" || slices.Contains(all, id) {
		return all
	}
	all = append(slices.Clone(all), id)
	return all[max(0, len(all)-mostRemembered):]
}

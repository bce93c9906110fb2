package alert

import (
	"slices"

	"github.com/lemnis/lemnis/pkg/events"
)

// Evolve folds a fact.
func Evolve(s State, fact events.Event) State {
	switch c := fact.Content.(type) {
	case events.AlertSent:
		if c.Delivered {
			s.Sent = append(slices.Clone(s.Sent), recipient(c))
		} else {
			s.Tried = append(slices.Clone(s.Tried), recipient(c))
		}
	case events.AlertAcknowledged:
		s.Acknowledged = c.By
	}
	return s
}

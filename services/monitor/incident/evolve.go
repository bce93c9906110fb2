package incident

import "github.com/lemnis/lemnis/pkg/events"

// Evolve folds a fact.
func Evolve(s State, fact events.Event) State {
	begin := func(i events.Incident, d events.IncidentDetail) State {
		return State{Stage: Open, ID: fact.SubjectID, Incident: i, Detail: d, Chain: fact.Chain}
	}
	switch c := fact.Content.(type) {
	case events.IncidentDetected:
		return begin(c.Incident, c.Lemnis)
	case events.IncidentReported:
		return begin(c.Incident, c.Lemnis)
	case events.RemediationStarted:
		s.Stage, s.Remedy = Remedying, c.Action
	case events.RemediationFinished:
		// One that failed leaves it open, for a person.
		if s.Stage, s.Remedy = Open, c.Action; c.Outcome == events.Success {
			s.Stage = Remedied
		}
	case events.IncidentResolved:
		return State{ID: s.ID}
	}
	return s
}

package incident

import "github.com/lemnis/lemnis/pkg/events"

// Takes are verdicts of canaries, what was done about them, changes of health, and its own facts.
var Takes = []events.Type{
	events.TypeOf(events.CanaryJudged{}), events.TypeOf(events.ServiceRolledback{}), events.TypeOf(events.HealthChanged{}),
	events.TypeOf(events.IncidentDetected{}), events.TypeOf(events.RemediationStarted{}), events.TypeOf(events.RemediationFinished{}),
}

// Route names the incident that an event concerns.
func Route(p events.Project, e events.Event) []string {
	one := func(key string) []string {
		if key == "" {
			return nil
		}
		return []string{key}
	}
	if e.Kind == events.Claim {
		switch c := e.Content.(type) {
		case events.IncidentDetected, events.IncidentReported, events.IncidentResolved:
			return one(keyOf(e.SubjectID))
		case events.RemediationStarted:
			return one(keyOf(c.Incident))
		case events.RemediationFinished:
			return one(keyOf(c.Incident))
		}
		return nil
	}
	if e.Kind != events.Stated {
		return nil
	}
	switch c := e.Content.(type) {
	case events.CanaryJudged:
		if c.Verdict == events.Rollback {
			return one(c.Rollout.ID)
		}
	case events.ServiceRolledback:
		return one(c.Lemnis.Rollout.ID)
	case events.HealthChanged:
		if n := len(p.Environments); n > 0 && p.Environments[n-1].Name == c.Environment {
			return one(e.Key) // environment/service, or environment/service/feature
		}
	case events.IncidentDetected, events.RemediationStarted, events.RemediationFinished:
		if e.Aggregate == Kind {
			return one(e.Key)
		}
	}
	return nil
}

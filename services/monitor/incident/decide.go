package incident

import (
	"fmt"
	"strings"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Decide says what an event makes of the incident with this key.
func Decide(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	if e.Kind == events.Claim {
		return claim(key, s, e)
	}
	if e.Kind != events.Stated || !p.Runs(events.Operate) {
		return events.Fact{}, false
	}
	switch c := e.Content.(type) {
	case events.CanaryJudged:
		if s.Stage == Closed && c.Verdict == events.Rollback {
			return detected(key, ofCanary(c, e))
		}
	case events.HealthChanged:
		switch {
		case s.Stage == Closed && c.Status == events.Unhealthy:
			return detected(fmt.Sprintf("%s%s%d", key, separator, e.Sequence), ofHealth(c, e))
		case s.Stage == Open && s.Detail.Rollout == "" && c.Status == events.Healthy:
			s.Remedy = "it is well again without anything that Lemnis did"
			return s.resolved()
		}
	case events.ServiceRolledback:
		switch {
		case s.Stage == Open && s.Remedy == "": // a monitor that was away has not said yet that remediation started
			return s.fact(events.RemediationStarted{Incident: s.ID, Action: rollBack(s.Detail), Done: true})
		case s.Stage == Open || s.Stage == Remedying:
			return s.finished()
		}
	case events.RemediationStarted:
		if s.Stage == Remedying && c.Done {
			return s.finished()
		}
	case events.IncidentDetected:
		if s.Stage == Open && s.Detail.Rollout != "" {
			return s.fact(events.RemediationStarted{Incident: s.ID, Action: rollBack(s.Detail)})
		}
	case events.RemediationFinished:
		if s.Stage == Remedied {
			return s.resolved()
		}
	}
	return events.Fact{}, false
}

// fact belongs to the incident, and so to its turn of the loop.
func (s State) fact(content any) (events.Fact, bool) {
	return events.Fact{Content: content, SubjectID: s.ID, Chain: s.Chain}, true
}

func detected(id string, c events.IncidentDetected) (events.Fact, bool) {
	return events.Fact{Content: c, SubjectID: id}, true
}

func (s State) finished() (events.Fact, bool) {
	action := s.Remedy
	if action == "" {
		action = rollBack(s.Detail)
	}
	return s.fact(events.RemediationFinished{Incident: s.ID, Action: action, Outcome: events.Success})
}

func (s State) resolved() (events.Fact, bool) {
	d := s.Detail
	d.Remedy = s.Remedy
	return s.fact(events.IncidentResolved{Incident: s.Incident, Lemnis: d})
}

func rollBack(d events.IncidentDetail) string {
	what := d.Title
	if what == "" {
		what = d.Change
	}
	if what == "" {
		what = d.Rollout
	}
	return "roll back " + what
}

func ofCanary(c events.CanaryJudged, e events.Event) events.IncidentDetected {
	r, a := c.Rollout, c.Rollout.Artifact
	return events.IncidentDetected{
		Incident: events.Incident{
			Description: fmt.Sprintf("%s in %s fails for a part of its users: %s", r.Service, r.Environment, c.Reason),
			Environment: events.Reference{ID: r.Environment}, Service: &events.Reference{ID: r.Service}, ArtifactID: a.ID,
		},
		Lemnis: events.IncidentDetail{
			Severity: "page", Rollout: r.ID, Change: a.Change, Item: a.Item, Title: a.Title, Author: a.Author,
			Exposed: c.Exposed, Onset: stamp(e.Stored), Cause: c.Reason,
		},
	}
}

func ofHealth(c events.HealthChanged, e events.Event) events.IncidentDetected {
	what := c.Service
	if c.Feature != "" {
		what = "feature " + c.Feature + " of " + c.Service
	}
	return events.IncidentDetected{
		Incident: events.Incident{
			Description: fmt.Sprintf("%s in %s is unhealthy: %.0f %% of the last %d probes succeeded", what, c.Environment, 100*c.Availability, c.Probes),
			Environment: events.Reference{ID: c.Environment}, Service: &events.Reference{ID: c.Service},
		},
		Lemnis: events.IncidentDetail{Severity: "page", Feature: c.Feature, Onset: stamp(e.Stored), Cause: c.Reason},
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// claim answers what people and outside tools say.
func claim(key string, s State, e events.Event) (events.Fact, bool) {
	open := fmt.Sprintf("the incident %s is open already", s.ID)
	switch c := e.Content.(type) {
	case events.IncidentDetected:
		if s.Stage != Closed {
			return events.Refuse(e, open)
		}
		if c.Lemnis.Onset == "" {
			c.Lemnis.Onset = stamp(e.Stored)
		}
		return events.Fact{Content: c, SubjectID: e.SubjectID}, true
	case events.IncidentReported:
		if s.Stage != Closed {
			return events.Refuse(e, open)
		}
		if c.Lemnis.Onset == "" {
			c.Lemnis.Onset = stamp(e.Stored)
		}
		return events.Fact{Content: c, SubjectID: e.SubjectID}, true
	case events.IncidentResolved:
		if reason := s.notOpen(e.SubjectID, key); reason != "" {
			return events.Refuse(e, reason)
		}
		remedy := c.Lemnis.Remedy
		if remedy == "" {
			remedy = strings.TrimSpace("resolved by " + e.Principal)
		}
		s.Remedy = remedy
		return s.resolved()
	case events.RemediationStarted:
		if reason := s.notOpen(c.Incident, key); reason != "" {
			return events.Refuse(e, reason)
		}
		c.Incident = s.ID
		return s.fact(c)
	case events.RemediationFinished:
		if reason := s.notOpen(c.Incident, key); reason != "" {
			return events.Refuse(e, reason)
		}
		c.Incident = s.ID
		return s.fact(c)
	}
	return events.Refuse(e, e.Type.Short()+" is nothing that an incident takes")
}

// notOpen says why the incident can not go on; empty when it can.
func (s State) notOpen(id, key string) string {
	if s.Stage == Closed || id != s.ID && id != key {
		return fmt.Sprintf("no incident %s is open", id)
	}
	return ""
}

package rollout

import (
	"slices"

	"github.com/lemnis/lemnis/pkg/events"
)

// Takes are the facts that a rollout goes on by: artifacts of the pipeline, trouble in its environment, and its own.
var Takes = slices.Concat([]events.Type{events.TypeOf(events.ArtifactPublished{})}, troubles, Own)

// Own are the types of its own facts.
var Own = typesOf(
	events.DeploymentRequested{}, events.GateEvaluated{}, events.ApprovalRequested{}, events.ApprovalGiven{}, events.ApprovalRefused{},
	events.DeploymentStarted{}, events.ServiceDeployed{}, events.ServiceUpgraded{}, events.TestSuiteRunFinished{},
	events.CanaryStepped{}, events.CanaryObserved{}, events.CanaryJudged{}, events.ServicePublished{},
	events.ServiceRolledback{}, events.ArtifactBarred{}, events.DeploymentFailed{},
	events.DeploymentPaused{}, events.DeploymentResumed{}, events.DeploymentAborted{}, events.DeploymentRetired{},
	events.DriftFound{}, events.DriftMended{},
)

// troubles are what the phase operate says of an environment.
var troubles = typesOf(events.IncidentDetected{}, events.IncidentReported{}, events.IncidentResolved{}, events.SLOBurned{}, events.SLORecovered{})

func typesOf(contents ...any) []events.Type {
	types := make([]events.Type, len(contents))
	for i, c := range contents {
		types[i] = events.TypeOf(c)
	}
	return types
}

// Route names the services in environments that an event concerns.
func Route(p events.Project, e events.Event) []string {
	switch e.Kind {
	case events.Claim:
		if e.Phase != events.Deploy {
			return nil
		}
		if environment, service := place(e); environment != "" && service != "" {
			return []string{Key(environment, service)}
		}
	case events.Result:
		if d, ok := e.Content.(events.DeadlineReached); ok && d.Aggregate != Kind {
			return nil
		}
		if e.Phase == events.Deploy && e.Key != "" {
			return []string{e.Key}
		}
	case events.Stated:
		if c, ok := e.Content.(events.ArtifactPublished); ok && c.Lemnis.Service != "" && len(p.Environments) > 0 {
			return []string{Key(p.Environments[0].Name, c.Lemnis.Service)}
		}
		if t, environment := troubleIn(e); environment != "" {
			var keys []string
			for _, service := range services(p) {
				keys = append(keys, Key(environment, service))
			}
			if key := Key(environment, t.service); t.service != "" && !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
			return keys
		}
		if e.Phase != events.Deploy || e.Aggregate != Kind {
			return nil
		}
		return routeOwn(p, e)
	}
	return nil
}

func routeOwn(p events.Project, e events.Event) []string {
	keys := []string{e.Key}
	add := func(environment string) {
		_, service := SplitKey(e.Key)
		if key := Key(environment, service); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	switch c := e.Content.(type) {
	case events.ServicePublished:
		if _, i := p.Environment(c.Lemnis.Rollout.Next); i >= 0 {
			add(c.Lemnis.Rollout.Next)
		}
	case events.ServiceRolledback:
		environment, _ := SplitKey(e.Key)
		for _, service := range c.Lemnis.Together {
			keys = append(keys, Key(environment, service))
		}
	case events.ArtifactBarred:
		for _, environment := range p.Environments {
			add(environment.Name)
		}
	}
	return keys
}

// place is the environment and the service that a claim speaks of.
func place(e events.Event) (environment, service string) {
	inRollout := func(r events.Rollout) (string, string) { return r.Environment, r.Service }
	ofService := func(environment events.Reference, d events.ServiceDetail) (string, string) {
		if d.Rollout.Environment != "" && d.Rollout.Service != "" {
			return d.Rollout.Environment, d.Rollout.Service
		}
		return environment.ID, e.SubjectID
	}
	switch c := e.Content.(type) {
	case events.DeploymentRequested:
		return inRollout(c.Rollout)
	case events.DeploymentStarted:
		return inRollout(c.Rollout)
	case events.DeploymentFailed:
		return inRollout(c.Rollout)
	case events.DeploymentPaused:
		return inRollout(c.Rollout)
	case events.DeploymentResumed:
		return inRollout(c.Rollout)
	case events.DeploymentAborted:
		return inRollout(c.Rollout)
	case events.GateEvaluated:
		return inRollout(c.Rollout)
	case events.ApprovalRequested:
		return inRollout(c.Rollout)
	case events.CanaryStepped:
		return inRollout(c.Rollout)
	case events.CanaryJudged:
		return inRollout(c.Rollout)
	case events.ApprovalGiven:
		return c.Environment, c.Service
	case events.ApprovalRefused:
		return c.Environment, c.Service
	case events.ServiceDeployed:
		return ofService(c.Environment, c.Lemnis)
	case events.ServiceUpgraded:
		return ofService(c.Environment, c.Lemnis)
	case events.ServiceRolledback:
		return ofService(c.Environment, c.Lemnis)
	case events.ServicePublished:
		return ofService(c.Environment, c.Lemnis)
	}
	return "", ""
}

package monitor

import (
	"testing"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/internal/service/rulestest"
	"github.com/lemnis/lemnis/pkg/events"
)

func TestHistories(t *testing.T) {
	define := func() []service.Definition { return []service.Definition{New(Options{})} }
	rulestest.Histories(t, events.DefaultProject("shop"), define, map[string]rulestest.Play{"lap": lap})
}

// lap is a canary that was taken back, a service that fell ill and got well, and an incident that people told of and mended.
func lap(t rulestest.T, s *rulestest.Stream) {
	t.Helper()
	add := func(e events.Event) {
		e.Chain = "chain-1"
		s.Add(e)
		s.Run(t)
	}
	result := func(key string, content any) { add(rulestest.Result(events.Operate, key, content)) }
	probe := func(environment, feature, status string) {
		result(environment+"/api", events.HealthChanged{Environment: environment, Service: "api", Feature: feature, Status: status, Probes: 10})
	}
	add(rulestest.Fact("prod/api", bad))

	result("prod/api@7", events.AlertSent{Incident: "prod/api@7", To: "ann", Channel: "webhook", Delivered: true})
	add(rulestest.Fact("prod/api", events.ServiceRolledback{Lemnis: events.ServiceDetail{Rollout: bad.Rollout}}))
	for _, status := range []string{events.Healthy, events.Unhealthy, events.Degraded, events.Healthy, events.Healthy} {
		probe("prod", "", status)
		probe("dev", "search", status)
	}
	add(rulestest.Claim("t-1", events.IncidentReported{Incident: events.Incident{Description: "checkout hangs"}, TicketURI: "https://tickets.example/1"}))
	result("t-1", events.AlertSent{Incident: "t-1", To: "bo", Channel: "log", Reason: "500"})
	for _, content := range []any{
		events.AlertAcknowledged{Incident: "t-1"}, events.AlertAcknowledged{Incident: "t-1"},
		events.RemediationStarted{Incident: "t-1", Action: "restart"}, events.RemediationFinished{Incident: "t-1", Action: "restart", Outcome: events.Success},
		events.IncidentResolved{},
	} {
		add(rulestest.Claim("t-1", content))
	}
	if n := len(rulestest.Facts[events.IncidentResolved](s)); n != 3 {
		t.Fatalf("%d incidents were resolved", n)
	}
}

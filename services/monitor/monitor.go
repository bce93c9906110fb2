// Package monitor is the operate phase: it probes what is deployed, opens and closes incidents, and tells whoever is on duty.
//
//   - health: the duty probe calls each service that serves all users of an environment, and each feature of it that the
//     project names, once a second through the address that users have; a fact is stated when the status changes.
//   - incident: opened by a canary's bad verdict, by an unhealthy service or feature in the last environment, or by a claim;
//     closed by the rollback, by recovery, or by a claim.
//   - alert: the effect alert sends each rota's person on duty a message by webhook, and writes it to the log in
//     any case; what came of it is a fact. A person acknowledges by a claim.
//
// # What it does not do yet
//
// Objectives and burn rates (the types slo burned and recovered), escalation to the next person, naming the change behind an
// incident that health found, infrastructure (network, storage, platform), channels other than webhooks. It probes over HTTP only, from
// one place.
package monitor

import (
	"net/http"
	"time"

	"github.com/lemnis/lemnis/internal/outward"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/monitor/alert"
	"github.com/lemnis/lemnis/services/monitor/health"
	"github.com/lemnis/lemnis/services/monitor/incident"
)

// Options of the service. The zero value is ready for use.
type Options struct {
	// Log is told with a message and keys and values in turn; nil: silent, but alerts are then only facts.
	Log func(message string, keysAndValues ...any)
	// Every is the pause between probes of one target; 1 s when zero.
	Every time.Duration
	// SecretsDir holds <project>/<name> for webhooks that are given as "secret:<name>"; empty: there are none.
	SecretsDir string
	// Allow are ranges of addresses, closed to webhooks otherwise, that they may have.
	Allow outward.Allowed
	// AlertTimeout bounds one attempt to deliver a message; 5 s when zero. AlertPause is the pause before the second of
	// three attempts, four times as long before the third; 500 ms when zero.
	AlertTimeout, AlertPause time.Duration
}

// New is the service as the runtime runs it.
func New(o Options) service.Definition {
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	or := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	or(&o.Every, time.Second)
	or(&o.AlertTimeout, 5*time.Second)
	or(&o.AlertPause, 500*time.Millisecond)
	targets, messenger := newTargets(), newMessenger(o)
	prober := &prober{targets: targets, every: o.Every, log: o.Log, client: noRedirects(&http.Transport{DisableKeepAlives: true})}
	return service.Definition{
		Phase: events.Operate,
		Aggregates: []service.Aggregate{
			service.Of(service.Rules[health.State]{Kind: health.Kind, Version: health.Version, Takes: health.Takes, Route: health.Route, Evolve: health.Evolve, Decide: health.Decide}),
			service.Of(service.Rules[incident.State]{Kind: incident.Kind, Version: incident.Version, Takes: incident.Takes, Route: incident.Route, Evolve: incident.Evolve, Decide: incident.Decide}),
			service.Of(service.Rules[alert.State]{Kind: alert.Kind, Version: alert.Version, Takes: alert.Takes, Route: alert.Route, Evolve: alert.Evolve, Decide: alert.Decide}),
		},
		Effects: []service.Effect{{
			Name: "alert", On: []events.Type{events.TypeOf(events.IncidentDetected{}), events.TypeOf(events.IncidentReported{})},
			Do: messenger.alert, Parallel: 4,
		}},
		Duties:      []service.Duty{{Name: "probe", Run: prober.run}},
		Projections: []service.Projection{{Name: "targets", On: targetTypes, Apply: targets.apply, Save: targets.save, Load: targets.load}},
	}
}

// noRedirects is a client that hands a redirect back as the answer.
func noRedirects(transport http.RoundTripper) *http.Client {
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

package monitor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/monitor/alert"
	"github.com/lemnis/lemnis/services/monitor/health"
	"github.com/lemnis/lemnis/services/monitor/incident"
)

var now = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC) // a Wednesday

// desk is the three aggregates on a stream in memory.
type desk struct {
	project events.Project
	last    uint64
	queue   []events.Event
	facts   []events.Event
	healths map[string]health.State
	inc     map[string]incident.State
	alerts  map[string]alert.State
}

func newDesk() *desk {
	return &desk{project: events.DefaultProject("shop"), healths: map[string]health.State{}, inc: map[string]incident.State{}, alerts: map[string]alert.State{}}
}

func (d *desk) put(kind events.Kind, key, principal string, content any) []events.Event {
	from := len(d.facts)
	d.queue = append(d.queue, d.stamp(events.Event{Kind: kind, Key: key, SubjectID: key, Principal: principal, Content: content, Chain: "deployment"}))
	for len(d.queue) > 0 {
		e := d.queue[0]
		d.queue = d.queue[1:]
		for _, k := range health.Route(d.project, e) {
			if f, ok := health.Decide(k, d.healths[k], d.project, e); ok {
				d.healths[k] = health.Evolve(d.healths[k], d.state(health.Kind, k, e, f))
			}
		}
		for _, k := range incident.Route(d.project, e) {
			if f, ok := incident.Decide(k, d.inc[k], d.project, e); ok {
				d.inc[k] = incident.Evolve(d.inc[k], d.state(incident.Kind, k, e, f))
			}
		}
		for _, k := range alert.Route(d.project, e) {
			if f, ok := alert.Decide(k, d.alerts[k], d.project, e); ok {
				d.alerts[k] = alert.Evolve(d.alerts[k], d.state(alert.Kind, k, e, f))
			}
		}
	}
	return d.facts[from:]
}

func (d *desk) stamp(e events.Event) events.Event {
	d.last++
	e.Sequence, e.Type, e.Stored = d.last, events.TypeOf(e.Content), now.Add(time.Duration(d.last)*time.Second)
	e.ID = fmt.Sprint("e-", d.last)
	if entry, _ := events.Lookup(e.Type); e.Phase == "" {
		e.Phase = entry.Phase
	}
	return e
}

func (d *desk) state(kind, key string, cause events.Event, f events.Fact) events.Event {
	e := events.Event{Kind: events.Stated, Aggregate: kind, Key: key, Content: f.Content, SubjectID: f.SubjectID, Chain: f.Chain, Phase: events.Operate, Time: cause.Stored}
	if e.SubjectID == "" {
		e.SubjectID = key
	}
	if e.Chain == "" {
		e.Chain = cause.Chain
	}
	e = d.stamp(e)
	d.facts = append(d.facts, e)
	d.queue = append(d.queue, e)
	return e
}

func story(facts []events.Event) string {
	var words []string
	for _, f := range facts {
		words = append(words, f.Type.Short())
	}
	return strings.Join(words, ", ")
}

var bad = events.CanaryJudged{
	Rollout: events.Rollout{ID: "prod/api@7", Environment: "prod", Service: "api", Artifact: events.ArtifactDetail{ID: "pkg:oci/api@2", Change: "c2", Item: "i2", Title: "Faster search", Author: "ann"}},
	Verdict: events.Rollback, Exposed: 120, Errors: 9, Reason: "canary 9 of 120 requests failed",
}

func TestACanaryThatIsRolledBackIsAnIncidentFromBeginToEnd(t *testing.T) {
	d := newDesk()
	if got := story(d.put(events.Stated, "prod/api", "", bad)); got != "incident.detected, remediation.started" {
		t.Fatal(got)
	}
	c := d.facts[0].Content.(events.IncidentDetected)
	if c.Lemnis.Change != "c2" || c.Lemnis.Item != "i2" || c.Lemnis.Exposed != 120 || c.Lemnis.Author != "ann" || c.Lemnis.Onset == "" || d.facts[0].SubjectID != "prod/api@7" {
		t.Errorf("%+v", c)
	}
	back := events.ServiceRolledback{Lemnis: events.ServiceDetail{Rollout: bad.Rollout}}
	if got := story(d.put(events.Stated, "prod/api", "", back)); got != "remediation.finished, incident.resolved" {
		t.Fatal(got)
	}
	r := d.facts[3].Content.(events.IncidentResolved)
	if r.Lemnis.Remedy != "roll back Faster search" || r.Lemnis.Item != "i2" || d.facts[3].Chain != "deployment" {
		t.Errorf("%+v", r)
	}
	for _, again := range []any{back, events.CanaryJudged{Rollout: bad.Rollout, Verdict: events.Promote}, events.CanaryJudged{Rollout: bad.Rollout, Verdict: events.Hold}} {
		if facts := d.put(events.Stated, "prod/api", "", again); len(facts) != 0 {
			t.Errorf("%T led to %s", again, story(facts))
		}
	}
}

// The deployer has taken the version back before the monitor has said anything.
func TestARollbackThatOvertakesTheMonitorIsToldFromBeginToEnd(t *testing.T) {
	d := newDesk()
	d.queue = append(d.queue, d.stamp(events.Event{Kind: events.Stated, Key: "prod/api", Content: bad, Chain: "deployment"}))
	back := events.ServiceRolledback{Lemnis: events.ServiceDetail{Rollout: bad.Rollout}}
	if got := story(d.put(events.Stated, "prod/api", "", back)); got != "incident.detected, remediation.started, remediation.finished, incident.resolved" {
		t.Fatal(got)
	}
	if r := d.facts[3].Content.(events.IncidentResolved); r.Lemnis.Remedy != "roll back Faster search" {
		t.Errorf("%+v", r)
	}
}

func TestHealthInTheLastEnvironmentOpensAndClosesIncidents(t *testing.T) {
	d := newDesk()
	probe := func(environment, feature, status string) string {
		return story(d.put(events.Result, "x", "", events.HealthChanged{Environment: environment, Service: "api", Feature: feature, Status: status, Probes: 10}))
	}
	for _, step := range []struct{ environment, feature, status, want string }{
		{"dev", "", events.Unhealthy, "health.changed"},
		{"prod", "", events.Healthy, "health.changed"},
		{"prod", "", events.Healthy, ""},
		{"prod", "", events.Degraded, "health.changed"},
		{"prod", "", events.Unhealthy, "health.changed, incident.detected"},
		{"prod", "", events.Degraded, "health.changed"},
		{"prod", "", events.Healthy, "health.changed, incident.resolved"},
		{"prod", "search", events.Unhealthy, "health.changed, incident.detected"},
		{"prod", "", events.Unhealthy, "health.changed, incident.detected"},
		{"prod", "search", events.Healthy, "health.changed, incident.resolved"},
		{"prod", "", "fine", ""},
	} {
		if got := probe(step.environment, step.feature, step.status); got != step.want {
			t.Errorf("%+v: %s", step, got)
		}
	}
	ids := map[string]bool{}
	for _, f := range d.facts {
		if f.Type == events.TypeOf(events.IncidentDetected{}) {
			ids[f.SubjectID] = true
		}
	}
	if len(ids) != 3 {
		t.Errorf("incidents %v", ids)
	}
}

func TestClaims(t *testing.T) {
	d := newDesk()
	check := func(key, principal string, content any, want string) {
		t.Helper()
		facts := d.put(events.Claim, key, principal, content)
		if got := story(facts); got != want {
			t.Errorf("%T %s: %s", content, key, got)
		}
	}
	report := events.IncidentReported{Incident: events.Incident{Description: "checkout hangs"}, TicketURI: "https://tickets.example/1"}
	check("t-1", "bo", events.IncidentResolved{}, "claim.refused")
	check("t-1", "bo", report, "incident.reported")
	check("t-1", "bo", report, "claim.refused")
	check("t-1", "bo", events.AlertAcknowledged{Incident: "t-1"}, "claim.refused") // nobody was told yet
	d.put(events.Result, "t-1", "", events.AlertSent{Incident: "t-1", To: "ann", Channel: "webhook", Reason: "500"})
	if facts := d.put(events.Result, "t-1", "", events.AlertSent{Incident: "t-1", To: "ann", Channel: "webhook", Reason: "500"}); len(facts) != 0 {
		t.Error("the same result twice")
	}
	if got := story(d.put(events.Result, "t-1", "", events.AlertSent{Incident: "t-1", To: "ann", Channel: "webhook", Delivered: true})); got != "alert.sent" {
		t.Error(got)
	}
	check("t-1", "", events.AlertAcknowledged{Incident: "t-1"}, "claim.refused")
	check("t-1", "bo", events.AlertAcknowledged{Incident: "t-1"}, "alert.acknowledged")
	check("t-1", "cy", events.AlertAcknowledged{Incident: "t-1"}, "claim.refused")
	check("t-1", "bo", events.RemediationStarted{Incident: "t-1", Action: "restart"}, "remediation.started")
	check("t-1", "bo", events.RemediationFinished{Incident: "t-1", Action: "restart", Outcome: events.Failure}, "remediation.finished")
	check("t-1", "bo", events.IncidentResolved{}, "incident.resolved")
	if r := d.facts[len(d.facts)-1].Content.(events.IncidentResolved); r.Description != "checkout hangs" || r.Lemnis.Remedy != "resolved by bo" {
		t.Errorf("%+v", r)
	}
	check("prod/api", "x", events.HealthChanged{Environment: "prod", Service: "api", Status: "ill"}, "claim.refused")
}

func TestOnDuty(t *testing.T) {
	people := []string{"ann", "bo", "cy"}
	monday := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	turn := func(rotation string, at time.Time) string {
		return alert.OnDuty(events.OnCall{Rotation: rotation, People: people}, at)
	}
	weekly := turn("", monday)
	if turn("weekly", monday.AddDate(0, 0, 6).Add(23*time.Hour)) != weekly || turn("", monday.Add(-time.Second)) == weekly || turn("", monday.AddDate(0, 0, 7)) == weekly {
		t.Error("a week is from Monday to Sunday")
	}
	if turn("", monday.AddDate(0, 0, 21)) != weekly {
		t.Error("three weeks are a round")
	}
	seen := map[string]bool{}
	for day := range 3 {
		seen[turn("daily", monday.AddDate(0, 0, day))] = true
	}
	if len(seen) != 3 || alert.OnDuty(events.OnCall{}, monday) != "" || turn("", time.Time{}) == "" || turn("daily", time.Unix(-1, 0)) == "" {
		t.Errorf("%v", seen)
	}
}

func TestAnOutsideOwnerDoesItItself(t *testing.T) {
	d := newDesk()
	d.project.Owners = map[events.Phase]string{events.Operate: "pager"}
	if facts := d.put(events.Stated, "prod/api", "", bad); len(facts) != 0 {
		t.Error(story(facts))
	}
	if got := story(d.put(events.Claim, "x", "pager", events.HealthChanged{Environment: "prod", Service: "api", Status: events.Unhealthy})); got != "health.changed" {
		t.Error(got)
	}
	if got := story(d.put(events.Claim, "i", "pager", events.IncidentDetected{})); got != "incident.detected" {
		t.Error(got)
	}
}

// Whatever comes in whatever order: nothing panics, a claim that is taken gets an answer, states survive JSON, and
// an incident is resolved only after it began.
func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDesk()
		for range rapid.IntRange(1, 50).Draw(t, "length") {
			id := rapid.SampledFrom([]string{"prod/api@7", "prod/api", "prod/api/search", "t-1"}).Draw(t, "id")
			status := rapid.SampledFrom([]string{events.Healthy, events.Degraded, events.Unhealthy, "odd"}).Draw(t, "status")
			contents := []any{
				bad, events.ServiceRolledback{Lemnis: events.ServiceDetail{Rollout: bad.Rollout}},
				events.HealthChanged{Environment: "prod", Service: "api", Status: status},
				events.HealthChanged{Environment: "prod", Service: "api", Feature: "search", Status: status},
				events.AlertSent{Incident: id, To: "ann", Channel: "log", Delivered: rapid.Bool().Draw(t, "delivered")},
				events.IncidentDetected{}, events.IncidentReported{}, events.IncidentResolved{}, events.AlertAcknowledged{Incident: id, By: "bo"},
				events.RemediationStarted{Incident: id}, events.RemediationFinished{Incident: id, Outcome: rapid.SampledFrom([]string{events.Success, events.Failure}).Draw(t, "outcome")},
			}
			i := rapid.IntRange(0, len(contents)-1).Draw(t, "content")
			kind := events.Claim
			if i < 2 {
				kind = events.Stated
			} else if i < 5 {
				kind = events.Result
			}
			if facts := d.put(kind, id, "local", contents[i]); kind == events.Claim && len(facts) == 0 {
				t.Fatalf("%T got no answer", contents[i])
			}
		}
		open := map[string]bool{}
		for _, f := range d.facts {
			switch f.Content.(type) {
			case events.IncidentDetected, events.IncidentReported:
				if open[f.SubjectID] {
					t.Fatalf("%s opened twice", f.SubjectID)
				}
				open[f.SubjectID] = true
			case events.IncidentResolved:
				if !open[f.SubjectID] {
					t.Fatalf("%s resolved without being open", f.SubjectID)
				}
				delete(open, f.SubjectID)
			}
		}
		for _, s := range d.inc {
			b, err := json.Marshal(s)
			var back incident.State
			if err == nil {
				err = json.Unmarshal(b, &back)
			}
			if again, _ := json.Marshal(back); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%v: %s", err, b)
			}
		}
	})
}

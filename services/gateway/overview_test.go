package gateway_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

// overview is the answer of GET /api/v1/overview.
type overview struct {
	Projects []string `json:"projects"`
	Project  string   `json:"project"`
	Sequence uint64   `json:"sequence"`
	Phases   []struct {
		Phase  string `json:"phase"`
		Facts  int    `json:"facts"`
		Claims int    `json:"claims"`
		Last   string `json:"last"`
		Moving []struct {
			Kind, Key, Title, State, Since, Chain string
		} `json:"moving"`
	} `json:"phases"`
}

func (o overview) moving() string {
	var all []string
	for _, p := range o.Phases {
		for _, m := range p.Moving {
			all = append(all, fmt.Sprintf("%s/%s %q %s", m.Kind, m.Key, m.Title, m.State))
		}
	}
	return strings.Join(all, "; ")
}

func TestOverview(t *testing.T) {
	w := newWorld(t)
	var o overview
	if w.get("/api/v1/overview", &o); len(o.Projects) != 0 || o.Projects == nil || o.Phases == nil {
		t.Errorf("of nothing: %+v", o)
	}
	ticketOf := func(key, summary, insight string) events.Event {
		return fact("shop", key, events.Plan, events.TicketCreated{Ticket: events.Ticket{Summary: summary, Creator: "ann", URI: "/u"}, Lemnis: events.TicketDetail{Insight: insight}})
	}
	rollout := func(id, title string) events.Rollout {
		return events.Rollout{ID: id, Environment: "prod", Service: "api", Artifact: events.ArtifactDetail{Title: title}}
	}
	deploy := func(content any) events.Event { return fact("shop", "prod/api", events.Deploy, content) }
	merge := events.MergeDetail{Title: "Index titles", Round: 1}
	incident := events.IncidentDetected{Incident: events.Incident{Description: "Search answers 500", Environment: events.Reference{ID: "prod"}}}
	steps := []struct {
		fact events.Event
		want string // all that moves then
	}{
		{fact("shop", "shop", events.Learn, events.InsightFound{Insight: "i1", Title: "Search is slow", Users: []string{"a"}}), `insight/i1 "Search is slow" 1 user`},
		{fact("shop", "shop", events.Learn, events.InsightFound{Insight: "i1", Title: "Search is slow", Users: []string{"a", "b"}, Confirmed: true}), `insight/i1 "Search is slow" confirmed by 2 users`},
		{ticketOf("T1", "Faster search", "i1"), `item/T1 "Faster search" open; insight/i1 "Search is slow" confirmed by 2 users`},
		{ticketOf("T2", "Dark colours", ""), ""},
		{fact("shop", "shop", events.Plan, events.BacklogRanked{Places: []events.Place{{Item: "T2", Rank: 1}, {Item: "T1", Rank: 2}}}), `item/T2 "Dark colours" ranked 1; item/T1 "Faster search" ranked 2; insight/i1 "Search is slow" confirmed by 2 users`},
		{fact("shop", "T2", events.Plan, events.TicketClosed{Resolution: "declined"}), `item/T1 "Faster search" ranked 2; insight/i1 "Search is slow" confirmed by 2 users`},
		{fact("shop", "shop", events.Plan, events.ReleasePlanned{Release: "r1", Items: []events.Place{{Item: "T1"}}}), `item/T1 "Faster search" planned for r1; release/r1 "Release r1" planned with 1 item; insight/i1 "Search is slow" confirmed by 2 users`},
		{fact("shop", "T1", events.Plan, events.TicketClosed{Resolution: "completed", Lemnis: events.TicketDetail{Insight: "i1"}}), `release/r1 "Release r1" planned with 1 item`},
		{fact("shop", "shop", events.Plan, events.ReleaseCompleted{Release: "r1"}), ``},
		{fact("shop", "c1", events.Develop, events.ChangeCreated{Lemnis: events.ChangeDetail{Title: "Index titles"}}), `change/c1 "Index titles" in review`},
		{fact("shop", "c1", events.Develop, events.ChangeReviewed{Lemnis: events.Review{Verdict: events.ChangesRequested}}), `change/c1 "Index titles" changes requested`},
		{fact("shop", "c1", events.Develop, events.ChangeVerified{ID: "c1"}), ``},
		{fact("shop", "c1", events.Integrate, events.QueueEntered{Merge: merge}), `queue/c1 "Index titles" queued`},
		{fact("shop", "c1#1", events.Integrate, events.PipelineRunStarted{Lemnis: events.RunDetail{Merge: merge}}), ``},
		{fact("shop", "c1#1", events.Integrate, events.PipelineRunFinished{}), `queue/c1 "Index titles" queued`},
		{fact("shop", "c1", events.Integrate, events.ChangeMerged{}), ``},
		{fact("shop", "c1#1", events.Integrate, events.BuildQueued{Lemnis: events.BuildDetail{Merge: merge}}), `build/c1#1 "Index titles" queued`},
		{fact("shop", "c1#1", events.Integrate, events.BuildFinished{}), ``},
		{deploy(events.DeploymentRequested{Rollout: rollout("1", "one")}), `rollout/prod/api "one to prod" requested`},
		{deploy(events.GateEvaluated{Rollout: rollout("1", "one"), Passed: true}), `rollout/prod/api "one to prod" gate passed`},
		{deploy(events.DeploymentRequested{Rollout: rollout("2", "two")}), `rollout/prod/api "one to prod" gate passed`},
		{deploy(events.CanaryStepped{Rollout: rollout("1", "one"), Weight: 0.05}), `rollout/prod/api "one to prod" serves 5 % of users`},
		{deploy(events.CanaryJudged{Rollout: rollout("1", "one"), Verdict: events.Rollback}), `rollout/prod/api "one to prod" rolling back`},
		{deploy(events.ServiceRolledback{Lemnis: events.ServiceDetail{Rollout: rollout("1", "one")}}), `rollout/prod/api "two to prod" requested`},
		{deploy(events.DeploymentFailed{Rollout: rollout("1", "one")}), `rollout/prod/api "two to prod" requested`},
		{deploy(events.ServicePublished{Lemnis: events.ServiceDetail{Rollout: rollout("2", "two")}}), ``},
		{fact("shop", "inc", events.Operate, incident), `incident/inc "Search answers 500" detected`},
		{fact("shop", "inc", events.Operate, events.AlertSent{Incident: "inc", To: "bo", Delivered: true}), `incident/inc "Search answers 500" told bo`},
		{fact("shop", "prod/api", events.Operate, events.HealthChanged{Service: "api", Environment: "prod", Status: events.Degraded}), ``},
		{fact("shop", "prod/api", events.Operate, events.HealthChanged{Service: "api", Environment: "prod", Status: events.Healthy}), ``},
		{fact("shop", "inc", events.Operate, events.IncidentResolved{Incident: incident.Incident}), ``},
	}
	for i, s := range steps {
		sequence := w.state(s.fact)
		w.until("the overview has met it", func() bool { w.get("/api/v1/overview?project=shop", &o); return o.Sequence >= sequence })
		ends := i+1 < len(steps) && steps[i+1].want == "" || s.want != ""
		if got := o.moving(); ends && s.want != "" && got != s.want {
			t.Errorf("after %s: %s, want %s", s.fact.Type.Short(), got, s.want)
		}
	}
	if o.moving() != "" {
		t.Errorf("still moving: %s", o.moving())
	}
	w.claim(ticket("T9", "x"))
	w.until("the claim is counted", func() bool { w.get("/api/v1/overview?project=shop", &o); return o.Phases[0].Claims == 1 })
	w.state(fact("bank", "T1", events.Plan, events.TicketCreated{Ticket: events.Ticket{Summary: strings.Repeat("ü", 500)}}))
	w.until("another project is shown", func() bool { w.get("/api/v1/overview", &o); return o.Project == "bank" })
	if strings.Join(o.Projects, " ") != "bank shop" || len(o.Phases) != 6 || len(o.Phases[0].Moving[0].Title) > 210 {
		t.Errorf("%+v", o)
	}
	// Bounded, and the same after a restart.
	for i := range 250 {
		w.state(fact("many", fmt.Sprintf("T%d", i), events.Plan, events.TicketCreated{Ticket: events.Ticket{Summary: "x"}}))
	}
	w.stop()
	w.start()
	if w.get("/api/v1/overview?project=many", &o); len(o.Phases[0].Moving) != 200 || o.Phases[0].Facts != 250 {
		t.Errorf("%d move of %d", len(o.Phases[0].Moving), o.Phases[0].Facts)
	}
	if w.get("/api/v1/overview?project=shop", &o); o.Phases[0].Claims != 1 || o.moving() != "" {
		t.Errorf("after the restart: %+v", o)
	}
	if resp, _ := w.send(http.MethodGet, "/api/v1/overview?project=No!", ""); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a bad name: %d", resp.StatusCode)
	}
	if resp, answer := w.send(http.MethodGet, "/", ""); resp.StatusCode != http.StatusOK || !strings.Contains(answer, "Lemnis") {
		t.Errorf("the dashboard: %d", resp.StatusCode)
	}
}

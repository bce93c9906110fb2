package gateway

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/excerpt"
	"github.com/lemnis/lemnis/pkg/events"
)

// moving is something under way in a phase. It is saved as it is: see overviewVersion.
type moving struct {
	Kind    string    `json:"kind"`
	Key     string    `json:"key"`
	Title   string    `json:"title,omitempty"`
	State   string    `json:"state"`
	Chain   string    `json:"chain,omitempty"`
	Since   time.Time `json:"since"`             // in this state
	Rank    int       `json:"rank,omitempty"`    // of a work item in the backlog
	Release string    `json:"release,omitempty"` // that a work item is planned for
	Rollout string    `json:"rollout,omitempty"` // id of the rollout that has the place
	Queued  *moving   `json:"queued,omitempty"`  // the rollout that waits for the place
}

// movers are the types, as subject.predicate, that the fold below knows.
var movers = func() map[string]bool {
	known := map[string]bool{}
	for _, c := range []any{
		events.ProjectConfigured{},
		events.TicketCreated{}, events.TicketUpdated{}, events.TicketClosed{}, events.ValueEstimated{}, events.BacklogRanked{},
		events.ReleasePlanned{}, events.ReleaseCompleted{},
		events.ChangeCreated{}, events.ChangeUpdated{}, events.ChangeReviewed{}, events.ChangeVerified{}, events.ChangeRejected{},
		events.ChangeAbandoned{}, events.ChangeMerged{},
		events.QueueEntered{}, events.QueueTested{}, events.QueueEjected{}, events.PipelineRunQueued{}, events.PipelineRunStarted{},
		events.PipelineRunFinished{}, events.BuildQueued{}, events.BuildStarted{}, events.BuildFinished{},
		events.DeploymentRequested{}, events.GateEvaluated{}, events.ApprovalRequested{}, events.ApprovalGiven{}, events.ApprovalRefused{},
		events.DeploymentStarted{}, events.ServiceDeployed{}, events.ServiceUpgraded{}, events.CanaryStepped{}, events.CanaryJudged{},
		events.ServicePublished{}, events.ServiceRolledback{}, events.DeploymentFailed{}, events.DeploymentPaused{},
		events.DeploymentResumed{}, events.DeploymentAborted{},
		events.IncidentDetected{}, events.IncidentReported{}, events.IncidentResolved{}, events.AlertSent{}, events.AlertAcknowledged{},
		events.RemediationStarted{}, events.RemediationFinished{}, events.HealthChanged{},
		events.InsightFound{},
	} {
		t := events.TypeOf(c)
		known[t.Subject()+"."+t.Predicate()] = true
	}
	return known
}()

// fold takes one fact into the view of its project. What it makes of a fact is saved: overviewVersion is to be raised
// with any change.
func (p *projectView) fold(e events.Event) {
	if c, ok := e.Content.(events.ProjectConfigured); ok {
		p.Config = &c.Project
		return
	}
	switch e.Phase {
	case events.Plan:
		p.foldPlan(e)
	case events.Develop:
		p.foldDevelop(e)
	case events.Integrate:
		p.foldIntegrate(e)
	case events.Deploy:
		p.foldDeploy(e)
	case events.Operate:
		p.foldOperate(e)
	case events.Learn:
		if c, ok := e.Content.(events.InsightFound); ok {
			state := count(len(c.Users), "user")
			if c.Confirmed {
				state = "confirmed by " + state
			}
			p.phase(events.Learn).move(e, "insight", c.Insight, c.Title, state)
		}
	}
}

func (p *projectView) foldPlan(e events.Event) {
	f := p.phase(events.Plan)
	switch c := e.Content.(type) {
	case events.TicketCreated:
		f.move(e, "item", e.Key, c.Summary, "open")
	case events.TicketUpdated:
		if m := f.get("item", e.Key); m != nil && c.Summary != "" {
			m.Title = short(c.Summary)
		}
	case events.ValueEstimated:
		if m := f.get("item", c.Item); m != nil && m.Rank == 0 && m.Release == "" {
			m.become("estimated", e.Stored)
		}
	case events.BacklogRanked:
		for _, place := range c.Places {
			m := f.get("item", place.Item)
			if m == nil {
				continue
			}
			if m.Rank = place.Rank; m.Release == "" {
				m.become(fmt.Sprintf("ranked %d", place.Rank), e.Stored)
			}
		}
	case events.ReleasePlanned:
		f.move(e, "release", c.Release, "Release "+c.Release, "planned with "+count(len(c.Items), "item"))
		for _, place := range c.Items {
			if m := f.get("item", place.Item); m != nil {
				m.Release = c.Release
				m.become("planned for "+short(c.Release), e.Stored)
			}
		}
	case events.ReleaseCompleted:
		f.end("release", c.Release)
	case events.TicketClosed:
		f.end("item", e.Key)
		learn := p.phase(events.Learn) // the insight that it answers has come to rest
		learn.end("insight", e.Key)
		learn.end("insight", c.Lemnis.Insight)
	}
}

func (p *projectView) foldDevelop(e events.Event) {
	f := p.phase(events.Develop)
	switch c := e.Content.(type) {
	case events.ChangeCreated:
		f.move(e, "change", e.Key, cmp.Or(c.Lemnis.Title, c.Description), "in review")
	case events.ChangeUpdated:
		f.move(e, "change", e.Key, c.Lemnis.Title, "in review")
	case events.ChangeReviewed:
		if m := f.get("change", e.Key); m != nil {
			m.become(strings.ReplaceAll(cmp.Or(c.Lemnis.Verdict, "reviewed"), "-", " "), e.Stored)
		}
	case events.ChangeRejected:
		if m := f.get("change", e.Key); m != nil {
			m.become("rejected", e.Stored)
		}
	case events.ChangeVerified, events.ChangeAbandoned:
		f.end("change", e.Key)
	}
}

func (p *projectView) foldIntegrate(e events.Event) {
	f := p.phase(events.Integrate)
	switch c := e.Content.(type) {
	case events.QueueEntered:
		state := "queued"
		if c.Merge.Round > 1 {
			state = fmt.Sprintf("queued, round %d", c.Merge.Round)
		}
		f.move(e, "queue", e.Key, c.Merge.Title, state)
	case events.QueueTested:
		f.move(e, "queue", e.Key, c.Merge.Title, "tested")
	case events.QueueEjected:
		f.end("queue", e.Key)
	case events.ChangeMerged:
		f.end("queue", e.Key)
		p.phase(events.Develop).end("change", e.Key)
	case events.PipelineRunQueued:
		f.move(e, "run", e.Key, c.Lemnis.Merge.Title, "queued")
	case events.PipelineRunStarted:
		f.move(e, "run", e.Key, c.Lemnis.Merge.Title, "running")
	case events.PipelineRunFinished:
		f.end("run", e.Key)
	case events.BuildQueued:
		f.move(e, "build", e.Key, cmp.Or(c.Lemnis.Merge.Title, c.Lemnis.Service), "queued")
	case events.BuildStarted:
		f.move(e, "build", e.Key, cmp.Or(c.Lemnis.Merge.Title, c.Lemnis.Service), "building")
	case events.BuildFinished:
		f.end("build", e.Key)
	}
}

func (p *projectView) foldOperate(e events.Event) {
	f := p.phase(events.Operate)
	become := func(key, state string) {
		if m := f.get("incident", cmp.Or(key, e.Key)); m != nil {
			m.become(state, e.Stored)
		}
	}
	switch c := e.Content.(type) {
	case events.IncidentDetected:
		f.move(e, "incident", e.Key, cmp.Or(c.Description, c.Lemnis.Title), "detected")
	case events.IncidentReported:
		f.move(e, "incident", e.Key, cmp.Or(c.Description, c.Lemnis.Title), "reported")
	case events.IncidentResolved:
		f.end("incident", e.Key)
	case events.AlertSent:
		if c.Delivered {
			become(c.Incident, "told "+short(c.To))
		}
	case events.AlertAcknowledged:
		become(c.Incident, short(cmp.Or(c.By, "somebody"))+" takes care")
	case events.RemediationStarted:
		become(c.Incident, "being repaired")
	case events.RemediationFinished:
		become(c.Incident, "repaired: "+short(c.Outcome))
	case events.HealthChanged:
		if c.Status == events.Healthy || c.Status == events.Unknown {
			f.end("health", e.Key)
			return
		}
		f.move(e, "health", e.Key, strings.TrimSpace(c.Service+" "+c.Feature)+" in "+c.Environment, c.Status)
	}
}

// move puts something into a state, and remembers it when it is new.
func (f *phaseView) move(e events.Event, kind, key, title, state string) *moving {
	m := f.get(kind, key)
	if m == nil {
		if len(f.Moving) >= 2*mostMoving { // not at each new one
			f.forget()
		}
		m = &moving{Kind: kind, Key: short(key), Since: e.Stored}
		f.Moving[kind+"/"+key] = m
	}
	if title != "" {
		m.Title = short(title)
	}
	m.Chain = e.Chain
	m.become(state, e.Stored)
	return m
}

func (f *phaseView) get(kind, key string) *moving { return f.Moving[kind+"/"+key] }

func (f *phaseView) end(kind, key string) { delete(f.Moving, kind+"/"+key) }

// forget drops what has not changed for longest, down to what is shown.
func (f *phaseView) forget() {
	names := make([]string, 0, len(f.Moving))
	for name := range f.Moving {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return f.Moving[b].Since.Compare(f.Moving[a].Since) })
	for _, name := range names[mostMoving:] {
		delete(f.Moving, name)
	}
}

func (m *moving) become(state string, at time.Time) {
	if m.State != state {
		m.State, m.Since = state, at
	}
}

// short bounds what others wrote.
func short(s string) string { return excerpt.Of(s, 200) }

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

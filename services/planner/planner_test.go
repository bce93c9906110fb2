package planner

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/internal/service/rulestest"
	"github.com/lemnis/lemnis/pkg/events"
)

// lap is one turn as the planner sees it: what is put on the stream, and when the planner gets to it.
func lap(t rulestest.T, s *rulestest.Stream) {
	t.Helper()
	configuration := s.Project
	configuration.Capacity.Points = 9
	s.Add(rulestest.Claim("shop", events.ProjectConfigured{Project: configuration}))
	s.Run(t)
	insight := events.InsightFound{Insight: "insight-1", Title: "Search is slow", Feature: "search", Category: "performance", Users: []string{"u1", "u2"}, Feedback: []string{"f1", "f2"}, Sentiment: -0.6, Confirmed: true}
	e := rulestest.Fact("shop", insight)
	e.Chain = "chain-1"
	s.Add(e)
	s.Add(rulestest.Claim("wish", events.TicketCreated{Ticket: events.Ticket{Summary: "Gift cards"}, Lemnis: events.TicketDetail{Origin: events.Stakeholder, Estimate: &events.Estimate{Source: events.Stakeholder, Value: 10, Cost: 5}, Requires: []string{"accounts"}}}))
	s.Add(rulestest.Claim("accounts", events.TicketCreated{Ticket: events.Ticket{Summary: "Accounts", Priority: "low"}}))
	s.Add(rulestest.Claim("wish", events.ValueEstimated{Item: "wish", Estimate: events.Estimate{Source: events.CaseStudy, By: "retail 2025", Value: 14, Confidence: 0.7}}))
	s.Run(t)
	s.Add(rulestest.Claim("r1", events.ReleasePlanned{Release: "r1"}))
	s.Add(rulestest.Claim("r0", events.ReleasePlanned{Release: "r0", Capacity: 0.5}))
	s.Run(t)
	s.Add(rulestest.Fact("incident-1", events.LessonLearned{Lesson: "incident-1", Title: "Search failed for 3 % of users", Kind: "incident", Item: "insight-1", Action: "raise-cost"}))
	published := func(item string) events.Event {
		c := events.ServicePublished{Environment: events.Reference{ID: "prod"}}
		c.Lemnis.Rollout = events.Rollout{ID: "ro-" + item, Environment: "prod", Service: "api", Artifact: events.ArtifactDetail{Item: item}}
		return rulestest.Fact("prod/api", c)
	}
	s.Add(published("insight-1"))
	s.Add(published("accounts"))
	s.Add(rulestest.Claim("wish", events.TicketClosed{Resolution: "withdrawn"}))
	s.Run(t)
}

func TestHistories(t *testing.T) {
	rulestest.Histories(t, events.DefaultProject("shop"), func() []service.Definition { return []service.Definition{New()} }, map[string]rulestest.Play{"lap": lap})
}

func TestLap(t *testing.T) {
	s := rulestest.New(events.DefaultProject("shop"), New())
	lap(t, s)
	plan := rulestest.Last[events.ReleasePlanned](t, s)
	var items []string
	for _, p := range plan.Items {
		items = append(items, p.Item)
	}
	// 9 points: the insight (3) and accounts (3) for 8.25, or the wish (5) with accounts (3) for 14 or so.
	if plan.Release != "r1" || !slices.Equal(items, []string{"accounts", "wish"}) || plan.Bound != plan.Value {
		t.Errorf("planned %+v", plan)
	}
	if closed := rulestest.Facts[events.TicketClosed](s); len(closed) != 3 {
		t.Errorf("closed %+v", closed)
	}
	done := rulestest.Last[events.ReleaseCompleted](t, s)
	if !slices.Equal(done.Shipped, []string{"accounts"}) || !slices.Equal(done.Dropped, []string{"wish"}) {
		t.Errorf("completed %+v", done)
	}
	if places := rulestest.Last[events.BacklogRanked](t, s).Places; len(places) != 0 {
		t.Errorf("left in the backlog: %+v", places)
	}
	if refused := rulestest.Facts[events.ClaimRefused](s); len(refused) != 1 {
		t.Errorf("refused %+v", refused)
	}
	// One turn of the loop keeps its chain from the insight to the order that it changed.
	for _, e := range s.Events {
		if c, ok := e.Content.(events.ValueEstimated); ok && e.Kind == events.Stated && c.Item == "insight-1" && c.Estimate.Source == events.EndUser && e.Chain != "chain-1" {
			t.Errorf("chain of %s is %q", e.Type, e.Chain)
		}
	}
}

// TestAnyOrder throws random events at the planner, in bursts and one by one, and holds the stream to its promises.
func TestAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rulestest.New(events.DefaultProject("shop"), New())
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			s.Add(drawCause(t, s))
			if rapid.Bool().Draw(t, "the planner gets to it") {
				s.Run(t)
			}
		}
		s.Run(t)
		s.CheckAnswers(t)
		checkBacklog(t, s)
	})
}

func drawCause(t *rapid.T, s *rulestest.Stream) events.Event {
	id := rapid.SampledFrom([]string{"a", "b", "c", "d", ""}).Draw(t, "item")
	ticket := events.Ticket{Summary: rapid.SampledFrom([]string{"", "One", "Two"}).Draw(t, "summary"), Priority: rapid.SampledFrom([]string{"", "low", "critical"}).Draw(t, "priority")}
	detail := events.TicketDetail{Origin: rapid.SampledFrom([]string{"", events.Stakeholder}).Draw(t, "origin"), Requires: rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "x"}), 0, 2).Draw(t, "requires")}
	estimate := events.Estimate{
		Source: rapid.SampledFrom([]string{"", events.Stakeholder, events.CaseStudy, events.EndUser, "oracle"}).Draw(t, "source"), By: rapid.SampledFrom([]string{"", "bo", "lesson:x"}).Draw(t, "by"),
		Value: float64(rapid.IntRange(-1, 20).Draw(t, "value")), Cost: float64(rapid.IntRange(0, 9).Draw(t, "cost")), Confidence: float64(rapid.IntRange(0, 10).Draw(t, "confidence")) / 10,
	}
	if rapid.Bool().Draw(t, "estimate in the ticket") {
		detail.Estimate = &estimate
	}
	switch rapid.IntRange(0, 11).Draw(t, "kind") {
	case 0, 1:
		return rulestest.Claim(id, events.TicketCreated{Ticket: ticket, Lemnis: detail})
	case 2:
		return rulestest.Claim(id, events.TicketUpdated{Ticket: ticket, Lemnis: detail})
	case 3:
		return rulestest.Claim(id, events.TicketClosed{Resolution: rapid.SampledFrom([]string{"", "completed", "declined"}).Draw(t, "resolution")})
	case 4:
		return rulestest.Claim(id, events.ValueEstimated{Item: id, Estimate: estimate})
	case 5:
		return rulestest.Claim("r", events.ReleasePlanned{Release: rapid.SampledFrom([]string{"r1", "r2", "r3"}).Draw(t, "release"), Capacity: float64(rapid.IntRange(-1, 20).Draw(t, "capacity"))})
	case 6:
		return rulestest.Claim("r", events.ReleaseCompleted{Release: rapid.SampledFrom([]string{"r1", "r2"}).Draw(t, "release")})
	case 7:
		return rulestest.Fact("shop", events.InsightFound{Insight: id, Title: "What users say", Category: rapid.SampledFrom([]string{"failure", "praise", "other"}).Draw(t, "category"), Users: []string{"u1", "u2"}[:rapid.IntRange(1, 2).Draw(t, "users")], Confirmed: rapid.Bool().Draw(t, "confirmed")})
	case 8:
		return rulestest.Fact("i", events.LessonLearned{Lesson: rapid.SampledFrom([]string{"l1", "l2"}).Draw(t, "lesson"), Item: id, Title: "What went wrong", Action: rapid.SampledFrom([]string{"reopen", "raise-cost", "none", "?"}).Draw(t, "action")})
	case 9:
		c := events.ServicePublished{}
		c.Lemnis.Rollout.Artifact.Item, c.Lemnis.Rollout.Next = id, rapid.SampledFrom([]string{"", "prod"}).Draw(t, "next")
		return rulestest.Fact("prod/api", c)
	case 10:
		p := events.DefaultProject("shop")
		p.Capacity.Every = events.Duration(rapid.SampledFrom([]int{-1, 0, 60e9}).Draw(t, "every"))
		p.Capacity.Points = float64(rapid.IntRange(0, 20).Draw(t, "points"))
		return rulestest.Claim("shop", events.ProjectConfigured{Project: p, Revision: uint64(rapid.IntRange(0, 2).Draw(t, "revision"))})
	default:
		due := "none"
		for _, e := range s.Events {
			if !e.Deadline.IsZero() && rapid.Bool().Draw(t, "it is due") {
				due = e.ID
			}
		}
		return events.Event{Kind: events.Result, Phase: events.Plan, Key: "shop", Content: events.DeadlineReached{Fact: due, Aggregate: "backlog", Key: "shop"}}
	}
}

// checkBacklog: the order at the end holds the open items, each once, prerequisites before dependents; no release is over twice.
func checkBacklog(t rulestest.T, s *rulestest.Stream) {
	open, requires := map[string]bool{}, map[string][]string{}
	var order []events.Place
	over := map[string]bool{}
	for _, e := range s.Events {
		if e.Kind != events.Stated {
			continue
		}
		switch c := e.Content.(type) {
		case events.TicketCreated:
			open[e.Key] = true
		case events.TicketClosed:
			delete(open, e.Key)
		case events.ValueEstimated:
			requires[c.Item] = c.Requires
		case events.BacklogRanked:
			order = c.Places
		case events.ReleaseCompleted:
			if over[c.Release] {
				t.Fatalf("release %s is over twice", c.Release)
			}
			over[c.Release] = true
		}
	}
	place := map[string]int{}
	for i, p := range order {
		if p.Rank != i+1 || p.Reason == "" || !open[p.Item] {
			t.Fatalf("place %+v, with %v open", p, open)
		}
		place[p.Item] = i
	}
	if len(place) != len(open) {
		t.Fatalf("%d places for %d open items", len(place), len(open))
	}
	for id := range place {
		for _, r := range requires[id] {
			at, ranked := place[r]
			if ranked && at > place[id] && !reaches(requires, r, id) {
				t.Fatalf("%s stands before %s, which it requires", id, r)
			}
		}
	}
}

// reaches reports whether from requires to, directly or not: a circle has no order.
func reaches(requires map[string][]string, from, to string) bool {
	seen := map[string]bool{}
	open := []string{from}
	for len(open) > 0 {
		n := open[0]
		open = open[1:]
		for _, r := range requires[n] {
			if r == to {
				return true
			}
			if !seen[r] {
				seen[r] = true
				open = append(open, r)
			}
		}
	}
	return false
}

// TestSameAgain: the same causes give the same facts.
func TestSameAgain(t *testing.T) {
	one, two := rulestest.New(events.DefaultProject("shop"), New()), rulestest.New(events.DefaultProject("shop"), New())
	lap(t, one)
	lap(t, two)
	if len(one.Events) != len(two.Events) {
		t.Fatalf("%d events, then %d", len(one.Events), len(two.Events))
	}
	for i := range one.Events {
		if a, b := fmt.Sprint(rulestest.Text(one.Events[i].Content), one.Events[i].Links), fmt.Sprint(rulestest.Text(two.Events[i].Content), two.Events[i].Links); a != b {
			t.Errorf("event %d: %s, then %s", i+1, a, b)
		}
	}
}

func TestDefinition(t *testing.T) {
	d := New()
	if d.Phase != events.Plan || len(d.Aggregates) != 3 || len(d.Effects) != 0 {
		t.Errorf("got %+v", d)
	}
}

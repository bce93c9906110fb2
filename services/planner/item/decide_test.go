package item

import (
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

var shop = events.DefaultProject("shop")

func opened(estimates ...events.ValueEstimated) []any {
	given := []any{events.TicketCreated{Ticket: events.Ticket{Summary: "Search", Creator: "ann", URI: "urn:x"}, Lemnis: events.TicketDetail{Origin: events.Stakeholder}}}
	for _, e := range estimates {
		given = append(given, e)
	}
	return given
}

func estimated(source, by string, value, cost, all, allCost float64) events.ValueEstimated {
	return events.ValueEstimated{Item: "T1", Title: "Search", Estimate: events.Estimate{Source: source, By: by, Value: value, Cost: cost, Confidence: 0.5}, Value: all, Cost: allCost}
}

func TestDecide(t *testing.T) {
	insight := events.InsightFound{Insight: "T1", Title: "Search is slow", Feature: "search", Category: "performance", Users: []string{"u1", "u2"}, Sentiment: -0.5, Confirmed: true}
	closed := append(opened(), events.TicketClosed{Resolution: "completed"})
	shipped := events.ServicePublished{}
	shipped.Lemnis.Rollout.Artifact.Item = "T1"
	jenkins := events.DefaultProject("shop")
	jenkins.Owners = map[events.Phase]string{events.Plan: "jira"}

	tests := []struct {
		name  string
		p     events.Project
		given []any
		kind  events.Kind
		when  any
		then  func(t *testing.T, content any)
	}{
		{"a ticket is opened", shop, nil, events.Claim, events.TicketCreated{Ticket: events.Ticket{Summary: "Search"}}, is(func(c events.TicketCreated) bool {
			return c.Creator == "ann" && c.URI == "urn:lemnis:shop:item:T1"
		})},
		{"a ticket with an estimate is of its source", shop, nil, events.Claim, events.TicketCreated{Ticket: events.Ticket{Summary: "Search"}, Lemnis: events.TicketDetail{Estimate: &events.Estimate{Source: events.CaseStudy, Value: 8}}}, is(func(c events.TicketCreated) bool {
			return c.Lemnis.Origin == events.CaseStudy && c.Lemnis.Estimate.By == "ann"
		})},
		{"twice", shop, opened(), events.Claim, events.TicketCreated{Ticket: events.Ticket{Summary: "Search"}}, refused("exists already")},
		{"without a summary", shop, nil, events.Claim, events.TicketCreated{}, refused("summary")},
		{"requires itself", shop, nil, events.Claim, events.TicketCreated{Ticket: events.Ticket{Summary: "x"}, Lemnis: events.TicketDetail{Requires: []string{"T1"}}}, refused("itself")},
		{"a value that is none", shop, nil, events.Claim, events.TicketCreated{Ticket: events.Ticket{Summary: "x"}, Lemnis: events.TicketDetail{Estimate: &events.Estimate{Source: events.CaseStudy, Value: -1}}}, refused("value")},
		{"an opened ticket is worth what its priority says", shop, opened(), events.Stated, events.TicketCreated{Ticket: events.Ticket{Summary: "Search", Creator: "ann", Priority: "high"}}, is(func(c events.ValueEstimated) bool {
			return c.Value == 8 && c.Cost == 3 && c.Estimate.Source == events.Stakeholder && c.Title == "Search"
		})},
		{"what was said meanwhile stays", shop, opened(estimated(events.Stakeholder, "bo", 9, 2, 9, 2)), events.Stated, events.TicketCreated{Ticket: events.Ticket{Summary: "Search", Creator: "ann"}}, nothing},
		{"sources are weighed", shop, opened(estimated(events.Stakeholder, "ann", 4, 2, 4, 2)), events.Claim, events.ValueEstimated{Item: "T1", Estimate: events.Estimate{Source: events.CaseStudy, Value: 12, Confidence: 0.5}}, is(func(c events.ValueEstimated) bool {
			return c.Value == 8 && c.Cost == 2 && c.Estimate.By == "ann" && strings.Contains(c.Reason, "case-study 12")
		})},
		{"the same again", shop, opened(estimated(events.Stakeholder, "ann", 4, 2, 4, 2)), events.Claim, estimated(events.Stakeholder, "ann", 4, 2, 0, 0), refused("already")},
		{"an unknown source", shop, opened(), events.Claim, events.ValueEstimated{Item: "T1", Estimate: events.Estimate{Source: "oracle", Value: 1}}, refused("oracle")},
		{"somebody speaks as a lesson", shop, opened(), events.Claim, events.ValueEstimated{Item: "T1", Estimate: events.Estimate{Source: events.Operations, By: "lesson:x", Value: 1}}, refused("lesson")},
		{"a value of nothing", shop, nil, events.Claim, events.ValueEstimated{Item: "T1", Estimate: events.Estimate{Source: events.CaseStudy, Value: 1}}, refused("there is no item T1")},
		{"an insight opens an item", shop, nil, events.Stated, insight, is(func(c events.TicketCreated) bool {
			return c.Summary == "Search is slow" && c.Lemnis.Origin == events.EndUser && c.Lemnis.Insight == "T1" && c.Lemnis.Feature == "search" && c.Lemnis.Estimate.Value == 6.25
		})},
		{"praise opens none", shop, nil, events.Stated, events.InsightFound{Insight: "T1", Category: "praise", Users: []string{"u1", "u2"}, Confirmed: true}, nothing},
		{"support grows", shop, opened(estimated(events.EndUser, ByInsight, 6.25, 0, 6.25, 3)), events.Stated, func() any { i := insight; i.Users = []string{"u1", "u2", "u3"}; return i }(), is(func(c events.ValueEstimated) bool {
			return c.Value > 9 && c.Estimate.Source == events.EndUser
		})},
		{"support for what is shipped", shop, closed, events.Stated, insight, nothing},
		{"a lesson makes it dearer", shop, opened(estimated(events.Stakeholder, "ann", 4, 2, 4, 2)), events.Stated, events.LessonLearned{Lesson: "I1", Item: "T1", Title: "rolled back", Action: raiseCost}, is(func(c events.ValueEstimated) bool {
			return c.Cost == 3 && c.Value == 4 && c.Estimate.Source == events.Operations && strings.Contains(c.Estimate.Reason, "I1")
		})},
		{"the same lesson again", shop, opened(estimated(events.Stakeholder, "ann", 4, 2, 4, 2), estimated(events.Operations, "lesson:I1", 4, 3, 4, 3)), events.Stated, events.LessonLearned{Lesson: "I1", Item: "T1", Action: raiseCost}, nothing},
		{"a lesson on what was shipped opens an item", shop, nil, events.Stated, events.LessonLearned{Lesson: "T1", Item: "T0", Title: "search is down", Action: reopen}, is(func(c events.TicketCreated) bool {
			return c.Lemnis.Origin == events.Operations && c.TicketType == "incident"
		})},
		{"a new title is told to the backlog", shop, append(opened(estimated(events.Stakeholder, "ann", 4, 2, 4, 2)), events.TicketUpdated{Ticket: events.Ticket{Summary: "Find"}}), events.Stated, events.TicketUpdated{Ticket: events.Ticket{Summary: "Find"}}, is(func(c events.ValueEstimated) bool {
			return c.Title == "Find" && c.Value == 4
		})},
		{"an update keeps what it does not carry", shop, opened(), events.Claim, events.TicketUpdated{Lemnis: events.TicketDetail{Requires: []string{"T0"}}}, is(func(c events.TicketUpdated) bool {
			return c.Summary == "Search" && c.Lemnis.Requires[0] == "T0" && c.UpdatedBy == "ann"
		})},
		{"an update of nothing", shop, opened(), events.Claim, events.TicketUpdated{Ticket: events.Ticket{Summary: "Search"}}, refused("already")},
		{"an update of a closed item", shop, closed, events.Claim, events.TicketUpdated{Ticket: events.Ticket{Summary: "Find"}}, refused("closed")},
		{"what reached the users is done", shop, opened(), events.Stated, shipped, is(func(c events.TicketClosed) bool { return c.Resolution == "completed" && c.Summary == "Search" })},
		{"and is done once", shop, closed, events.Stated, shipped, nothing},
		{"closed by hand", shop, opened(), events.Claim, events.TicketClosed{Resolution: "declined"}, is(func(c events.TicketClosed) bool { return c.Resolution == "declined" && c.Summary == "Search" })},
		{"closed without saying how", shop, opened(), events.Claim, events.TicketClosed{}, refused("completed, withdrawn or declined")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var s State
			for _, c := range test.given {
				s = Evolve(s, events.Event{Kind: events.Stated, Key: "T1", Content: c})
			}
			e := events.Event{Kind: test.kind, ID: "e1", Key: "T1", Principal: "ann", Phase: events.Plan, Content: test.when}
			if keys := Route(test.p, e); len(keys) != 1 && test.then != nil && test.name != "praise opens none" || len(keys) > 0 && keys[0] != "T1" {
				t.Fatalf("routed to %v", keys)
			}
			fact, ok := Decide("T1", s, test.p, e)
			if !ok {
				fact.Content = nil
			}
			test.then(t, fact.Content)
		})
	}
	if keys := Route(jenkins, events.Event{Kind: events.Stated, Content: insight}); keys != nil {
		t.Errorf("where an outside tool owns the plan, an insight is routed to %v", keys)
	}
	early := shipped
	early.Lemnis.Rollout.Next = "prod"
	if keys := Route(shop, events.Event{Kind: events.Stated, Content: early}); keys != nil {
		t.Errorf("what has environments before it is routed to %v", keys)
	}
}

func is[C any](holds func(C) bool) func(*testing.T, any) {
	return func(t *testing.T, content any) {
		t.Helper()
		if c, ok := content.(C); !ok || !holds(c) {
			t.Errorf("got %T %+v", content, content)
		}
	}
}

func refused(word string) func(*testing.T, any) {
	return is(func(c events.ClaimRefused) bool { return c.Claim == "e1" && strings.Contains(c.Reason, word) })
}

func nothing(t *testing.T, content any) {
	t.Helper()
	if content != nil {
		t.Errorf("got %T %+v, want no fact", content, content)
	}
}

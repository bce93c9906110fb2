package events_test

import (
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// smallFact is a ticket as the planner states it; largeFact a rollout step with all it carries.
func smallFact() events.Event {
	return events.Event{
		ID: "3f6c7a52-3a0e-5d1b-9a63-6f6e0f5d2a11", Source: "/lemnis/planner", Type: "dev.cdevents.ticket.created.0.2.0",
		Time: time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC), Project: "shop", Phase: events.Plan, Aggregate: "item", Key: "T-17",
		Cause: "0b1e7c1c-5a53-4a65-8a0a-0c7f2f0f7a55", CauseSequence: 41, ConfigRevision: 3, Chain: "7d1a3a4e-9f0e-4b7e-8a59-6f1a44f7b0c2",
		Links:     []events.Link{{Type: events.Path, Context: "0b1e7c1c-5a53-4a65-8a0a-0c7f2f0f7a55"}},
		SubjectID: "T-17",
		Content: events.TicketCreated{
			Ticket: events.Ticket{Summary: "Search answers slowly", TicketType: "enhancement", Creator: "ann", URI: "/items/T-17"},
			Lemnis: events.TicketDetail{Origin: events.EndUser, Feature: "search"},
		},
	}
}

func largeFact() events.Event {
	e := smallFact()
	places := make([]events.Place, 100)
	for i := range places {
		places[i] = events.Place{Item: "T-17", Title: "Search answers slowly", Rank: i + 1, Value: 13.5, Cost: 5, Score: 2.7, Reason: "value 13.5 from 4 end users and a case study, cost 5"}
	}
	e.Type, e.Aggregate, e.Key, e.SubjectID = "dev.cdeventsx.lemnis-backlog.ranked.0.1.0", "backlog", "shop", "shop"
	e.Content = events.BacklogRanked{Places: places, Reason: "T-17 was estimated anew"}
	return e
}

var benchFacts = map[string]func() events.Event{"small": smallFact, "large": largeFact}

func BenchmarkEncode(b *testing.B) {
	for _, size := range []string{"small", "large"} {
		b.Run(size, func(b *testing.B) {
			e := benchFacts[size]()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := events.Encode(e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, size := range []string{"small", "large"} {
		b.Run(size, func(b *testing.B) {
			m, err := events.Encode(benchFacts[size]())
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(m.Data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := events.Decode(m.Header, m.Data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

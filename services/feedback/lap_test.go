package feedback

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lemnis/lemnis/pkg/events"
)

// lap is one turn as the feedback service sees it. What the effect would report is put on the stream by hand.
func lap(t failer, s *stream) {
	t.Helper()
	for i, user := range []string{"u1", "u2", "u2"} {
		id := fmt.Sprintf("f%d", i+1)
		e := claim(id, events.FeedbackReceived{User: user, Feature: "search", Rating: 2})
		e.Chain = "chain-" + id
		s.add(e)
		s.add(claim(id, events.FeedbackReceived{User: user, Rating: 1})) // the same id again
	}
	s.run(t)
	for _, e := range s.events {
		c, ok := e.Content.(events.FeedbackReceived)
		if !ok || e.Kind != events.Stated {
			continue
		}
		s.add(events.Event{Kind: events.Result, Key: "shop", Chain: e.Chain, Attempt: 1, Cause: e.ID, Content: events.Understanding{
			Feedback: e.Key, User: c.User, Feature: c.Feature, Service: c.Service, Category: "performance", Sentiment: -0.5, Rating: c.Rating, EventID: e.ID,
		}})
	}
	s.run(t)
	rollout := events.Rollout{ID: "ro-1", Environment: "prod", Service: "api", Artifact: events.ArtifactDetail{Item: "insight-f1", Committed: epoch.Add(-time.Hour).Format(time.RFC3339)}}
	s.add(fact("prod/api", events.ServicePublished{Environment: events.Reference{ID: "prod"}, Lemnis: events.ServiceDetail{Rollout: rollout}}))
	rollout.ID = "ro-2"
	s.add(fact("prod/api", events.ServiceRolledback{Environment: events.Reference{ID: "prod"}, ArtifactID: "pkg:generic/api", Lemnis: events.ServiceDetail{Rollout: rollout}}))
	s.add(fact("ro-2", events.IncidentResolved{
		Incident: events.Incident{Description: "Search failed", Environment: events.Reference{ID: "prod"}, Service: &events.Reference{ID: "api"}},
		Lemnis:   events.IncidentDetail{Rollout: "ro-2", Item: "insight-f1", Exposed: 40, Onset: epoch.Format(time.RFC3339)},
	}))
	s.run(t)
}

func TestLap(t *testing.T) {
	s := newStream(events.DefaultProject("shop"))
	lap(t, s)
	found := facts[events.InsightFound](s)
	if len(found) != 3 || found[0].Confirmed || !found[1].Confirmed || found[2].Insight != "insight-f1" || !slices.Equal(found[2].Users, []string{"u1", "u2"}) {
		t.Errorf("found %+v", found)
	}
	for _, e := range s.events {
		if _, ok := e.Content.(events.InsightFound); ok && e.Chain != "chain-f1" {
			t.Errorf("an insight is of chain %q", e.Chain)
		}
	}
	if refused := facts[events.ClaimRefused](s); len(refused) != 3 {
		t.Errorf("refused %+v", refused)
	}
	computed := facts[events.MetricsComputed](s)
	if len(computed) != 3 || computed[2].Metrics.Deployments != 2 || computed[2].Metrics.Failed != 1 || computed[2].Metrics.RecoveryTime <= 0 {
		t.Errorf("computed %+v", computed)
	}
	if learned := facts[events.LessonLearned](s); len(learned) != 1 || learned[0].Action != "raise-cost" || learned[0].Item != "insight-f1" {
		t.Errorf("learned %+v", learned)
	}
}

// TestAnyOrder throws random events at the service: every claim gets an answer, nothing panics, states survive.
func TestAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStream(events.DefaultProject("shop"))
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			id := rapid.SampledFrom([]string{"a", "b", "c", ""}).Draw(t, "id")
			user := rapid.SampledFrom([]string{"", "u1", "u2"}).Draw(t, "user")
			feature := rapid.SampledFrom([]string{"", "search"}).Draw(t, "feature")
			r := events.Rollout{ID: id, Next: rapid.SampledFrom([]string{"", "prod"}).Draw(t, "next"), Artifact: events.ArtifactDetail{Item: id, Committed: rapid.SampledFrom([]string{"", "soon", "2026-03-01T00:00:00Z", "2099-01-01T00:00:00Z"}).Draw(t, "committed")}}
			switch rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0:
				s.add(claim(id, events.FeedbackReceived{User: user, Feature: feature, Rating: float64(rapid.IntRange(-1, 6).Draw(t, "rating")), Text: rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "text"), Key: user}))
			case 1:
				s.add(events.Event{Kind: events.Result, Key: "shop", Content: events.Understanding{Feedback: id, User: user, Feature: feature, Category: rapid.SampledFrom([]string{"failure", ""}).Draw(t, "category")}})
			case 2:
				s.add(fact(id, events.ServicePublished{Lemnis: events.ServiceDetail{Rollout: r}}))
			case 3:
				s.add(fact(id, events.ServiceRolledback{Lemnis: events.ServiceDetail{Rollout: r}}))
			case 4:
				s.add(fact(id, events.IncidentResolved{Lemnis: events.IncidentDetail{Rollout: rapid.SampledFrom([]string{"", id}).Draw(t, "rollout"), Item: id, Onset: r.Artifact.Committed}}))
			case 5:
				s.add(claim(id, events.LessonLearned{Lesson: id, Title: user, Kind: rapid.SampledFrom([]string{"incident", "?"}).Draw(t, "what"), Action: rapid.SampledFrom([]string{"none", "raise-cost", "?"}).Draw(t, "action"), Item: feature}))
			}
			if rapid.Bool().Draw(t, "the service gets to it") {
				s.run(t)
			}
		}
		s.run(t)
		answered := map[uint64]bool{}
		latest := map[string]uint64{}
		for _, e := range s.events {
			if e.Kind != events.Stated || e.CauseSequence == 0 {
				continue
			}
			answered[e.CauseSequence] = true
			if at := e.Aggregate + "/" + e.Key; e.Aggregate != "" {
				if e.CauseSequence <= latest[at] {
					t.Fatalf("%s states %s for cause %d after one for %d", at, e.Type.Short(), e.CauseSequence, latest[at])
				}
				latest[at] = e.CauseSequence
			}
			if c, ok := e.Content.(events.MetricsComputed); ok && (c.Metrics.ChangeFailRate > 1 || c.Metrics.Failed > c.Metrics.Deployments || c.Metrics.LeadTime < -1) {
				t.Fatalf("figures %+v", c.Metrics)
			}
		}
		for _, e := range s.events {
			if e.Kind == events.Claim && !answered[e.Sequence] {
				t.Fatalf("claim %d of %s gets no answer", e.Sequence, e.Type.Short())
			}
		}
	})
}

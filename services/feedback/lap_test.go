package feedback

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/internal/service/rulestest"
	"github.com/lemnis/lemnis/pkg/events"
)

// lap is one turn as the feedback service sees it. What the effect would report is put on the stream by hand.
func lap(t rulestest.T, s *rulestest.Stream) {
	t.Helper()
	for i, user := range []string{"u1", "u2", "u2"} {
		id := fmt.Sprintf("f%d", i+1)
		e := rulestest.Claim(id, events.FeedbackReceived{User: user, Feature: "search", Rating: 2})
		e.Chain = "chain-" + id
		s.Add(e)
		s.Add(rulestest.Claim(id, events.FeedbackReceived{User: user, Rating: 1})) // the same id again
	}
	s.Run(t)
	for _, e := range s.Events {
		c, ok := e.Content.(events.FeedbackReceived)
		if !ok || e.Kind != events.Stated {
			continue
		}
		s.Add(events.Event{Kind: events.Result, Key: "shop", Chain: e.Chain, Attempt: 1, Cause: e.ID, Content: events.Understanding{
			Feedback: e.Key, User: c.User, Feature: c.Feature, Service: c.Service, Category: "performance", Sentiment: -0.5, Rating: c.Rating, EventID: e.ID,
		}})
	}
	s.Run(t)
	rollout := events.Rollout{ID: "ro-1", Environment: "prod", Service: "api", Artifact: events.ArtifactDetail{Item: "insight-f1", Committed: rulestest.Epoch.Add(-time.Hour).Format(time.RFC3339)}}
	s.Add(rulestest.Fact("prod/api", events.ServicePublished{Environment: events.Reference{ID: "prod"}, Lemnis: events.ServiceDetail{Rollout: rollout}}))
	rollout.ID = "ro-2"
	s.Add(rulestest.Fact("prod/api", events.ServiceRolledback{Environment: events.Reference{ID: "prod"}, ArtifactID: "pkg:generic/api", Lemnis: events.ServiceDetail{Rollout: rollout}}))
	s.Add(rulestest.Fact("ro-2", events.IncidentResolved{
		Incident: events.Incident{Description: "Search failed", Environment: events.Reference{ID: "prod"}, Service: &events.Reference{ID: "api"}},
		Lemnis:   events.IncidentDetail{Rollout: "ro-2", Item: "insight-f1", Exposed: 40, Onset: rulestest.Epoch.Format(time.RFC3339)},
	}))
	s.Run(t)
}

func TestHistories(t *testing.T) {
	rulestest.Histories(t, events.DefaultProject("shop"), func() []service.Definition { return []service.Definition{New(Options{})} }, map[string]rulestest.Play{"lap": lap})
}

func TestLap(t *testing.T) {
	s := rulestest.New(events.DefaultProject("shop"), New(Options{}))
	lap(t, s)
	found := rulestest.Facts[events.InsightFound](s)
	if len(found) != 3 || found[0].Confirmed || !found[1].Confirmed || found[2].Insight != "insight-f1" || !slices.Equal(found[2].Users, []string{"u1", "u2"}) {
		t.Errorf("found %+v", found)
	}
	for _, e := range s.Events {
		if _, ok := e.Content.(events.InsightFound); ok && e.Chain != "chain-f1" {
			t.Errorf("an insight is of chain %q", e.Chain)
		}
	}
	if refused := rulestest.Facts[events.ClaimRefused](s); len(refused) != 3 {
		t.Errorf("refused %+v", refused)
	}
	computed := rulestest.Facts[events.MetricsComputed](s)
	if len(computed) != 3 || computed[2].Metrics.Deployments != 2 || computed[2].Metrics.Failed != 1 || computed[2].Metrics.RecoveryTime <= 0 {
		t.Errorf("computed %+v", computed)
	}
	if learned := rulestest.Facts[events.LessonLearned](s); len(learned) != 1 || learned[0].Action != "raise-cost" || learned[0].Item != "insight-f1" {
		t.Errorf("learned %+v", learned)
	}
}

// TestAnyOrder throws random events at the service: every claim gets an answer, nothing panics, states survive.
func TestAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rulestest.New(events.DefaultProject("shop"), New(Options{}))
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			id := rapid.SampledFrom([]string{"a", "b", "c", ""}).Draw(t, "id")
			user := rapid.SampledFrom([]string{"", "u1", "u2"}).Draw(t, "user")
			feature := rapid.SampledFrom([]string{"", "search"}).Draw(t, "feature")
			r := events.Rollout{ID: id, Next: rapid.SampledFrom([]string{"", "prod"}).Draw(t, "next"), Artifact: events.ArtifactDetail{Item: id, Committed: rapid.SampledFrom([]string{"", "soon", "2026-03-01T00:00:00Z", "2099-01-01T00:00:00Z"}).Draw(t, "committed")}}
			switch rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0:
				s.Add(rulestest.Claim(id, events.FeedbackReceived{User: user, Feature: feature, Rating: float64(rapid.IntRange(-1, 6).Draw(t, "rating")), Text: rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "text"), Key: user}))
			case 1:
				s.Add(events.Event{Kind: events.Result, Key: "shop", Content: events.Understanding{Feedback: id, User: user, Feature: feature, Category: rapid.SampledFrom([]string{"failure", ""}).Draw(t, "category")}})
			case 2:
				s.Add(rulestest.Fact(id, events.ServicePublished{Lemnis: events.ServiceDetail{Rollout: r}}))
			case 3:
				s.Add(rulestest.Fact(id, events.ServiceRolledback{Lemnis: events.ServiceDetail{Rollout: r}}))
			case 4:
				s.Add(rulestest.Fact(id, events.IncidentResolved{Lemnis: events.IncidentDetail{Rollout: rapid.SampledFrom([]string{"", id}).Draw(t, "rollout"), Item: id, Onset: r.Artifact.Committed}}))
			case 5:
				s.Add(rulestest.Claim(id, events.LessonLearned{Lesson: id, Title: user, Kind: rapid.SampledFrom([]string{"incident", "?"}).Draw(t, "what"), Action: rapid.SampledFrom([]string{"none", "raise-cost", "?"}).Draw(t, "action"), Item: feature}))
			}
			if rapid.Bool().Draw(t, "the service gets to it") {
				s.Run(t)
			}
		}
		s.Run(t)
		s.CheckAnswers(t)
		for _, e := range s.Events {
			if c, ok := e.Content.(events.MetricsComputed); ok && (c.Metrics.ChangeFailRate > 1 || c.Metrics.Failed > c.Metrics.Deployments || c.Metrics.LeadTime < -1) {
				t.Fatalf("figures %+v", c.Metrics)
			}
		}
	})
}

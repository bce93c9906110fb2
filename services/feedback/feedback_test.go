package feedback

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
	"github.com/lemnis/lemnis/internal/privacy"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/feedback/delivery"
	piece "github.com/lemnis/lemnis/services/feedback/feedback"
	"github.com/lemnis/lemnis/services/feedback/insight"
	"github.com/lemnis/lemnis/services/feedback/lesson"
)

var shop = events.DefaultProject("shop")

func newVault(t *testing.T) (*privacy.Vault, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	_, _, js := natsdtest.Start(t)
	vault, err := privacy.NewVault(ctx, js, 1)
	if err != nil {
		t.Fatal(err)
	}
	return vault, ctx
}

func TestUnderstand(t *testing.T) {
	vault, ctx := newVault(t)
	received := func(user, text string, rating float64) events.Event {
		c := events.FeedbackReceived{User: user, Feature: "search", Rating: rating}
		if text != "" {
			var err error
			if c.Key, c.Text, err = vault.Seal(ctx, "shop", user, text); err != nil {
				t.Fatal(err)
			}
		}
		return events.Event{Kind: events.Stated, ID: "fact-" + user, Project: "shop", Key: "f-" + user, Content: c}
	}
	tests := []struct {
		text     string
		rating   float64
		category string
		low      float64
		high     float64
	}{
		{"Search is terribly slow, I wait forever", 2, "performance", -1, -0.3},
		{"It crashes with an error when I search", 0, "failure", -1, -0.3},
		{"I am confused: the filter button is hidden", 0, "usability", -1, -0.2},
		{"Please add an export, I miss it", 0, "missing", -0.2, 0.2},
		{"Great, I love it", 5, "praise", 0.8, 1},
		{"It is not bad", 0, "praise", 0.1, 0.5},
		{"", 5, "praise", 1, 1},
		{"", 1, "other", -1, -1},
		{"Ganz schön langsam", 0, "other", 0, 0},
	}
	for i, test := range tests {
		u, err := understand(ctx, vault, received(fmt.Sprintf("u%d", i), test.text, test.rating))
		if err != nil || u.Category != test.category || u.Sentiment < test.low || u.Sentiment > test.high {
			t.Errorf("%q, %v: got %+v, %v", test.text, test.rating, u, err)
		}
		if !slices.IsSorted(u.Terms) || u.Feature != "search" || u.EventID == "" {
			t.Errorf("%q: got %+v", test.text, u)
		}
	}

	// Erased, what a user said counts by rating and feature alone.
	e := received("ann", "Search crashes", 1)
	if err := vault.Erase(ctx, "shop", "ann"); err != nil {
		t.Fatal(err)
	}
	u, err := understand(ctx, vault, e)
	if err != nil || u.Category != "other" || u.Sentiment != -1 || u.Terms != nil {
		t.Errorf("erased: %+v, %v", u, err)
	}
	// What was never sealed is not tried again and again.
	c := e.Content.(events.FeedbackReceived)
	c.Key, c.Text = "made-up", []byte("plain")
	e.Content = c
	if _, err = understand(ctx, vault, e); err != nil {
		t.Errorf("never sealed: %v", err)
	}
}

func TestUnderstandTriesAgainWhenTheKeysCannotBeReached(t *testing.T) {
	vault, ctx := newVault(t)
	key, text, err := vault.Seal(ctx, "shop", "ann", "slow")
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, err = understand(gone, vault, events.Event{Project: "shop", Key: "f", Content: events.FeedbackReceived{User: "ann", Key: key, Text: text}})
	if err == nil || events.Rejected(err) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestTermsAreOfAProject(t *testing.T) {
	_, _, one := read("shop", "checkout crashes")
	_, _, other := read("bank", "checkout crashes")
	_, _, same := read("shop", "crashing checkouts")
	if slices.Equal(one, other) || !slices.Equal(one, same) {
		t.Errorf("terms %v, of another project %v, of other forms %v", one, other, same)
	}
}

func TestReceive(t *testing.T) {
	p := shop
	p.Features = []events.Feature{{Name: "search", Service: "api", Path: "/search"}}
	decide := func(s piece.State, c events.FeedbackReceived) any {
		f, _ := piece.Decide("f1", s, p, events.Event{Kind: events.Claim, ID: "c", Key: "f1", Content: c})
		return f.Content
	}
	if c, ok := decide(piece.State{}, events.FeedbackReceived{User: "u", Rating: 2, Feature: "search"}).(events.FeedbackReceived); !ok || c.Service != "api" {
		t.Errorf("got %+v", c)
	}
	for word, c := range map[string]events.FeedbackReceived{
		"whose": {Rating: 2}, "rating": {User: "u", Rating: 9}, "nothing": {User: "u"}, "encrypted": {User: "u", Text: []byte("plain")},
	} {
		if r, ok := decide(piece.State{}, c).(events.ClaimRefused); !ok || !strings.Contains(r.Reason, word) {
			t.Errorf("%s: got %+v", word, r)
		}
	}
	if r, ok := decide(piece.State{Received: true}, events.FeedbackReceived{User: "u", Rating: 2}).(events.ClaimRefused); !ok || !strings.Contains(r.Reason, "already") {
		t.Errorf("got %+v", r)
	}
}

func understood(id, user, feature, category string, terms ...uint64) events.Event {
	return events.Event{Kind: events.Result, Project: "shop", Key: "shop", Chain: "chain-" + id, Content: events.Understanding{
		Feedback: id, User: user, Feature: feature, Category: category, Sentiment: -0.5, Terms: terms, EventID: "fact-" + id,
	}}
}

// themes folds what results bring about, and returns the last fact.
func themes(t *testing.T, causes ...events.Event) (insight.State, events.Fact) {
	t.Helper()
	var s insight.State
	var last events.Fact
	for _, e := range causes {
		f, ok := insight.Decide("shop", s, shop, e)
		if !ok {
			continue
		}
		last = f
		s = insight.Evolve(s, events.Event{Kind: events.Stated, Chain: f.Chain, Links: f.Links, Content: f.Content})
	}
	return s, last
}

func TestInsight(t *testing.T) {
	_, once := themes(t, understood("1", "u1", "search", "performance"), understood("2", "u1", "search", "performance"))
	if c := once.Content.(events.InsightFound); c.Confirmed || len(c.Feedback) != 2 || len(c.Users) != 1 {
		t.Errorf("one user twice: %+v", c)
	}
	s, f := themes(t, understood("1", "u2", "search", "performance", 1, 2), understood("2", "u1", "search", "performance", 2, 3), understood("2", "u9", "search", "performance"))
	c := f.Content.(events.InsightFound)
	if !c.Confirmed || c.Insight != "insight-1" || !slices.Equal(c.Users, []string{"u1", "u2"}) || !slices.Equal(c.Terms, []uint64{1, 2, 3}) || c.Title != "Search is too slow" || c.Sentiment != -0.5 {
		t.Errorf("two users: %+v", c)
	}
	if f.Chain != "chain-1" || len(f.Links) != 2 || f.Links[0].Context != "fact-2" || f.Links[1].Context != "fact-1" {
		t.Errorf("chain %q, links %+v", f.Chain, f.Links)
	}
	if len(s.Themes) != 1 {
		t.Errorf("themes %+v", s.Themes)
	}
	s, _ = themes(t, understood("1", "u1", "search", "performance"), understood("2", "u2", "search", "failure"), understood("3", "u3", "cart", "failure"),
		understood("4", "u4", "", "failure", 10, 11, 12), understood("5", "u5", "", "failure", 11, 12, 13), understood("6", "u6", "", "failure", 90))
	if len(s.Themes) != 5 || !s.Themes[3].Confirmed || s.Themes[4].Confirmed {
		t.Errorf("themes %+v", s.Themes)
	}
}

func TestLesson(t *testing.T) {
	resolved := func(d events.IncidentDetail) events.Event {
		return events.Event{Kind: events.Stated, ID: "e", Key: "i1", Content: events.IncidentResolved{Incident: events.Incident{Description: "Search failed"}, Lemnis: d}}
	}
	for _, test := range []struct {
		detail events.IncidentDetail
		action string
	}{
		{events.IncidentDetail{Rollout: "r1", Item: "T1", Change: "c1", Exposed: 12}, "raise-cost"},
		{events.IncidentDetail{Rollout: "r1"}, "none"},
		{events.IncidentDetail{Item: "T1"}, "reopen"},
	} {
		f, ok := lesson.Decide("i1", lesson.State{}, shop, resolved(test.detail))
		if l, _ := f.Content.(events.LessonLearned); !ok || l.Lesson != "i1" || l.Action != test.action || l.Item != test.detail.Item || l.Reason == "" {
			t.Errorf("%+v: got %+v", test.detail, l)
		}
	}
	if _, ok := lesson.Decide("i1", lesson.State{Learned: true}, shop, resolved(events.IncidentDetail{})); ok {
		t.Error("learned twice")
	}
	f, _ := lesson.Decide("l1", lesson.State{}, shop, events.Event{Kind: events.Claim, Content: events.LessonLearned{Title: "x", Kind: "incident", Action: "shrug"}})
	if _, ok := f.Content.(events.ClaimRefused); !ok {
		t.Errorf("got %+v", f)
	}
}

func TestDelivery(t *testing.T) {
	epoch := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	var s delivery.State
	meet := func(after time.Duration, key string, content any) (events.MetricsComputed, bool) {
		e := events.Event{Kind: events.Stated, ID: key + after.String(), Project: "shop", Key: key, Stored: epoch.Add(after), Content: content}
		if len(delivery.Route(shop, e)) == 0 {
			return events.MetricsComputed{}, false
		}
		f, ok := delivery.Decide("shop", s, shop, e)
		if !ok {
			return events.MetricsComputed{}, false
		}
		s = delivery.Evolve(s, events.Event{Kind: events.Stated, Content: f.Content, Links: f.Links})
		return f.Content.(events.MetricsComputed), true
	}
	rollout := func(id, item, next string) events.Rollout {
		return events.Rollout{ID: id, Environment: "prod", Service: "api", Next: next, Artifact: events.ArtifactDetail{Item: item, Committed: epoch.Add(-time.Hour).Format(time.RFC3339)}}
	}
	published := func(id, item, next string) events.ServicePublished {
		return events.ServicePublished{Lemnis: events.ServiceDetail{Rollout: rollout(id, item, next)}}
	}
	if _, ok := meet(0, "dev/api", published("r0", "T1", "prod")); ok {
		t.Error("dev counts")
	}
	m, _ := meet(0, "prod/api", published("r1", "T1", ""))
	if m.Metrics.Deployments != 1 || m.Metrics.LeadTime != 3600 || m.Metrics.RecoveryTime != -1 || m.Metrics.ChangeFailRate != 0 {
		t.Errorf("the first: %+v", m)
	}
	if _, ok := meet(time.Minute, "prod/api", published("r1", "T1", "")); ok {
		t.Error("one rollout counts twice")
	}
	meet(2*time.Minute, "prod/api", events.ServiceRolledback{Lemnis: events.ServiceDetail{Rollout: rollout("r2", "T2", "")}})
	resolved := events.IncidentResolved{Lemnis: events.IncidentDetail{Rollout: "r2", Item: "T2", Onset: epoch.Add(time.Minute).Format(time.RFC3339)}}
	m, _ = meet(3*time.Minute, "i1", resolved)
	if m.Metrics.Deployments != 2 || m.Metrics.Failed != 1 || m.Metrics.ChangeFailRate != 0.5 || m.Metrics.RecoveryTime != 120 {
		t.Errorf("after an incident: %+v", m)
	}
	m, _ = meet(48*time.Hour, "prod/api", published("r3", "T2", ""))
	if m.Metrics.Deployments != 3 || m.Metrics.Rework != 1 || m.Metrics.PerDay != 1.5 || m.Metrics.Since != "2026-03-02T09:00:00Z" {
		t.Errorf("rework: %+v", m)
	}
}

// TestAnyResults: whatever is understood, in any order and however often, each piece counts once, and confirmed stays confirmed.
func TestAnyResults(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s insight.State
		counted, confirmed := map[string]bool{}, map[string]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "results") {
			id := fmt.Sprint(rapid.IntRange(0, 30).Draw(t, "id"))
			e := understood(id, rapid.SampledFrom([]string{"", "u1", "u2", "u3"}).Draw(t, "user"), rapid.SampledFrom([]string{"", "search", "cart"}).Draw(t, "feature"),
				rapid.SampledFrom([]string{"failure", "praise", ""}).Draw(t, "category"), rapid.SliceOfN(rapid.Uint64Range(1, 9), 0, 3).Draw(t, "terms")...)
			f, ok := insight.Decide("shop", s, shop, e)
			if !ok {
				continue
			}
			c := f.Content.(events.InsightFound)
			if counted[id] {
				t.Fatalf("piece %s counts twice", id)
			}
			counted[id] = true
			if confirmed[c.Insight] && !c.Confirmed || !slices.IsSorted(c.Users) || c.Sentiment < -1 || c.Sentiment > 1 || c.Title == "" {
				t.Fatalf("got %+v", c)
			}
			confirmed[c.Insight] = c.Confirmed
			s = insight.Evolve(s, events.Event{Kind: events.Stated, Chain: f.Chain, Content: c})
		}
	})
}

func TestDefinition(t *testing.T) {
	if d := New(Options{}); d.Phase != events.Learn || len(d.Aggregates) != 4 || len(d.Effects) != 1 {
		t.Errorf("got %+v", d)
	}
}

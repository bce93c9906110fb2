package show_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/cmd/lemnis/show"
	"github.com/lemnis/lemnis/pkg/events"
)

var began = time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)

func event(kind events.Kind, id, cause, key string, after time.Duration, content any) events.Event {
	t := events.TypeOf(content)
	entry, _ := events.Lookup(t)
	return events.Event{ID: id, Cause: cause, Key: key, Kind: kind, Type: t, Phase: entry.Phase, Project: "shop", Aggregate: "a", Time: began.Add(after), Content: content}
}

func TestTree(t *testing.T) {
	chain := []events.Event{
		event(events.Claim, "c1", "", "f1", 0, events.FeedbackReceived{User: "u1", Feature: "search"}),
		event(events.Stated, "e1", "c1", "f1", 10*time.Millisecond, events.FeedbackReceived{User: "u1", Feature: "search"}),
		{ID: "e2", Cause: "result", Key: "shop", Kind: events.Stated, Type: events.TypeOf(events.InsightFound{}), Phase: events.Learn, Project: "shop",
			Time: began.Add(20 * time.Millisecond), Content: events.InsightFound{Title: "Search fails", Users: []string{"u1"}, Confirmed: true},
			Links: []events.Link{{Type: events.Relation, Context: "e1"}}},
		event(events.Stated, "e3", "e2", "i1", 30*time.Millisecond, events.TicketCreated{Ticket: events.Ticket{Summary: "Search\x1b[31m fails"}}),
		event(events.Stated, "e4", "e2", "i2", 40*time.Millisecond, events.TicketCreated{Ticket: events.Ticket{Summary: "the longer history"}}),
		event(events.Stated, "e5", "e4", "i2", 50*time.Millisecond, events.ValueEstimated{Item: "i2", Value: 3, Cost: 2, Estimate: events.Estimate{Source: "stakeholder", Value: 3}}),
		event(events.Stated, "e6", "", "r", 60*time.Millisecond, events.CanaryStepped{Weight: 0.1}),
		event(events.Stated, "t1", "x1", "r", 70*time.Millisecond, events.CanaryObserved{Tick: 1}),
		event(events.Stated, "t2", "x2", "r", 80*time.Millisecond, events.CanaryObserved{Tick: 2}),
		event(events.Stated, "e7", "t2", "r", 90*time.Millisecond, events.CanaryJudged{Verdict: "promote"}),
		event(events.Stated, "e8", "e7", "r", 95*time.Millisecond, events.MetricsComputed{Metrics: events.DeliveryMetrics{Deployments: 1, RecoveryTime: -1}}),
		event(events.Stated, "e9", "e8", "r", 96*time.Millisecond, events.MetricsComputed{Metrics: events.DeliveryMetrics{Deployments: 2, ChangeFailRate: 0.5, RecoveryTime: 3}}),
		event(events.Claim, "c2", "", "chg", 11*time.Minute, events.ChangeCreated{Lemnis: events.ChangeDetail{Title: "Fix it", Author: "ann", Branch: "fix", Head: strings.Repeat("a", 40)}}),
	}
	var b strings.Builder
	if err := show.Tree(&b, chain, false); err != nil {
		t.Fatal(err)
	}
	want := `   +0.00s  learn      feedback.received (claim)  f1  from u1 on search
   +0.01s  learn      feedback.received  f1  from u1 on search
   +0.02s  learn      ⋯ insight.found  shop  Search fails, 1 user, confirmed
   +0.03s  plan       ├─ ticket.created  i1  Search [31m fails
   +0.04s  plan       ticket.created  i2  the longer history
   +0.05s  plan       value.estimated  i2  i2 is worth 3 for 2: stakeholder says 3
   +0.06s  deploy     canary.stepped  r  10 % of users; 2 ticks
   +0.09s  deploy     canary.judged  r  promote
   +0.10s  learn      metrics.computed  r  1 deployment, 0 % failed
   +0.10s  learn      metrics.computed  r  2 deployments, 50 % failed, recovery 3.0 s
   +11m0s  develop    change.created (claim)  chg  Fix it by ann, fix at aaaaaaaaaaaa
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// Times that authors wrote say nothing of how long it took: a claim may speak of last year.
func TestTreeOfOldNews(t *testing.T) {
	claim := event(events.Claim, "c1", "", "i1", -7842*time.Hour, events.TicketCreated{Ticket: events.Ticket{Summary: "Old"}})
	claim.Stored = began
	stated := event(events.Stated, "e1", "c1", "i1", 0, events.TicketCreated{Ticket: events.Ticket{Summary: "Old"}})
	stated.Stored = began.Add(20 * time.Millisecond)
	var b strings.Builder
	if err := show.Tree(&b, []events.Event{claim, stated}, false); err != nil {
		t.Fatal(err)
	}
	want := `   +0.00s  plan       ticket.created (claim)  i1  Old
   +0.02s  plan       ticket.created  i1  Old
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if line := show.Line(claim, time.UTC); !strings.Contains(line, "10:00:00.000") {
		t.Error(line)
	}
}

func TestTally(t *testing.T) {
	run := func(after time.Duration, content any) events.Event {
		return event(events.Stated, "", "", "run", after, content)
	}
	rows := show.Tally([]events.Event{
		run(0, events.PipelineRunQueued{}),
		run(time.Second, events.PipelineRunStarted{}),
		run(4*time.Second, events.PipelineRunFinished{Outcome: events.Success}),
		event(events.Stated, "", "", "other", 3*time.Second, events.PipelineRunStarted{}),
		event(events.Stated, "", "", "other", 5*time.Second, events.PipelineRunFinished{}),
		event(events.Claim, "", "", "run", 9*time.Second, events.ChangeMerged{}),
	})
	for _, r := range rows {
		if r.Phase != events.Integrate {
			if r.Events != 0 {
				t.Errorf("%+v", r)
			}
			continue
		}
		// The two runs overlap for a second, which counts once.
		if r.Events != 6 || r.Work != 4*time.Second || r.Wait != time.Second {
			t.Errorf("%+v", r)
		}
	}
}

// Every type has words of its own, or at least does no harm.
func TestSummaryOfEveryType(t *testing.T) {
	for _, entry := range events.Catalogue() {
		e := events.Event{Type: entry.Type, Content: entry.Zero()}
		if s := show.Summary(e); strings.ContainsAny(s, "\n\x1b") {
			t.Errorf("%s: %q", entry.Type, s)
		}
		_ = show.Line(e, time.UTC)
	}
}

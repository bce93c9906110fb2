package testhistory_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/testhistory"
	"github.com/lemnis/lemnis/pkg/events"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// ran is the end of a run on a commit.
func ran(n int, commit string, tests ...events.TestCase) events.Event {
	return events.Event{Kind: events.Stated, Key: fmt.Sprintf("api@%d", n), Stored: noon.Add(time.Duration(n) * time.Minute), Content: events.PipelineRunFinished{
		Lemnis: events.RunDetail{Merge: events.MergeDetail{Repository: "api", Commit: commit}, Tests: tests}}}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	var h testhistory.History
	test := func(outcome string, seconds float64) events.TestCase {
		return events.TestCase{Name: "web.TestOnce", Outcome: outcome, Seconds: seconds}
	}
	h.Apply(ran(1, "c1", test("", 0.1), events.TestCase{Name: "web.TestFast"}))
	h.Apply(ran(2, "c2", test(events.TestFailed, 0.5)))
	h.Apply(events.Event{Content: events.QueueEjected{}})
	c, _ := h.Case("api", "web.TestOnce")
	if c.Flaky != 0 || c.Outcome != events.TestFailed || c.Failures != 1 || c.Runs != 2 {
		t.Fatalf("red on another commit: %+v", c)
	}
	h.Apply(ran(3, "c2", test("", 0.3))) // passes where it failed
	h.Apply(ran(4, "c2", test(events.TestFailed, 0)))
	h.Apply(ran(5, "c3", test(events.TestFlaky, 0))) // both in one run
	h.Apply(ran(6, "c4", test("", 0)))
	h.Apply(ran(7, "c4", test(events.TestFailed, 0))) // and the other way round
	c, _ = h.Case("api", "web.TestOnce")
	if c.Flaky != 3 || c.Failures != 3 || c.Runs != 7 || c.Seconds != 0.3 || len(c.Last) != 7 || c.Last[0].Run != "api@1" {
		t.Fatalf("%+v", c)
	}
	if all := h.Cases(); h.Runs != 7 || len(all) != 2 || all[0].Name != "web.TestOnce" || all[1].Flaky != 0 {
		t.Fatalf("%d runs: %+v", h.Runs, all)
	}
	if _, there := h.Case("web", "web.TestOnce"); there {
		t.Fatal("it is known in another repository")
	}
}

func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	var h testhistory.History
	for n := range testhistory.Most/500 + 1 {
		var tests []events.TestCase
		for i := range 500 {
			tests = append(tests, events.TestCase{Name: fmt.Sprintf("Test%d_%d", n, i)})
		}
		tests = append(tests, events.TestCase{Name: "TestAlways"})
		h.Apply(ran(n, "c", tests...))
	}
	all := h.Cases()
	if len(all) > testhistory.Most || len(all) < testhistory.Most/2 {
		t.Fatalf("%d cases", len(all))
	}
	if _, there := h.Case("api", "Test0_0"); there {
		t.Error("the one that ran longest ago is known")
	}
	if c, _ := h.Case("api", "TestAlways"); c.Runs != testhistory.Most/500+1 || len(c.Last) != testhistory.Kept {
		t.Errorf("the one that ran each time: %d runs, %d results", c.Runs, len(c.Last))
	}
}

// What is kept as JSON is the same history again.
func TestHistoryIsLoaded(t *testing.T) {
	t.Parallel()
	var h, again testhistory.History
	h.Apply(ran(1, "c1", events.TestCase{Name: "A", Outcome: events.TestFailed}, events.TestCase{Name: "B", Seconds: 2}))
	text, err := json.Marshal(h.Cases())
	if err != nil {
		t.Fatal(err)
	}
	var all []testhistory.Case
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	again.Load(h.Runs, all)
	for _, one := range []*testhistory.History{&h, &again} {
		one.Apply(ran(2, "c1", events.TestCase{Name: "A"}, events.TestCase{Name: "B", Seconds: 4}))
	}
	if !reflect.DeepEqual(h.Cases(), again.Cases()) || again.Cases()[0].Flaky != 1 || again.Runs != 2 {
		t.Fatalf("kept\n%+v\nloaded\n%+v", h.Cases(), again.Cases())
	}
}

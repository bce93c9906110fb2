package backlog

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

var shop = events.DefaultProject("shop")

// after folds the facts that causes bring about, each cause with its own id.
func after(t *testing.T, p events.Project, causes ...events.Event) State {
	t.Helper()
	var s State
	for i, e := range causes {
		e.ID = fmt.Sprintf("given%d", i)
		fact, ok := Decide("shop", s, p, e)
		if !ok {
			t.Fatalf("given %T brings about nothing", e.Content)
		}
		if c, no := fact.Content.(events.ClaimRefused); no {
			t.Fatalf("given %T is refused: %s", e.Content, c.Reason)
		}
		s = Evolve(s, stated(fmt.Sprintf("fact%d", i), fact))
	}
	return s
}

func stated(id string, f events.Fact) events.Event {
	e := events.Event{Kind: events.Stated, ID: id, Key: "shop", Content: f.Content, Links: f.Links}
	if f.Timer > 0 {
		e.Deadline = time.Unix(0, 0).Add(f.Timer)
	}
	return e
}

func worth(item string, value, cost float64, requires ...string) events.Event {
	return events.Event{Kind: events.Stated, Key: item, Content: events.ValueEstimated{Item: item, Title: "Title of " + item, Value: value, Cost: cost, Requires: requires}}
}

func closes(item, resolution string) events.Event {
	return events.Event{Kind: events.Stated, Key: item, Content: events.TicketClosed{Resolution: resolution}}
}

func plans(name string, capacity float64) events.Event {
	return events.Event{Kind: events.Claim, ID: "c", Key: name, Content: events.ReleasePlanned{Release: name, Capacity: capacity}}
}

func TestOrder(t *testing.T) {
	s := after(t, shop, worth("a", 8, 4), worth("b", 9, 3), worth("base", 0, 1), worth("top", 20, 2, "base", "gone"))
	if want := []string{"base", "top", "b", "a"}; !slices.Equal(s.Order, want) {
		t.Fatalf("order %v, want %v", s.Order, want)
	}
	// What an item requires comes back with the next order, although a place does not say it.
	fact, ok := Decide("shop", s, shop, worth("a", 80, 4))
	c, _ := fact.Content.(events.BacklogRanked)
	if !ok || len(c.Places) != 4 || c.Places[0].Item != "a" || c.Places[1].Item != "base" {
		t.Fatalf("got %+v", c)
	}
	if !strings.Contains(c.Reason, "a is now 80 of value for 4 of cost, it was 8 for 4") {
		t.Errorf("reason %q", c.Reason)
	}
	if r := c.Places[1].Reason; !strings.Contains(r, "comes with top, which needs it") {
		t.Errorf("reason %q", r)
	}
	if r := c.Places[2].Reason; !strings.Contains(r, "not waiting for gone") {
		t.Errorf("reason %q", r)
	}
	if same, ok := Decide("shop", s, shop, worth("b", 9, 3)); ok {
		t.Errorf("nothing is new, and got %+v", same)
	}
	if s = Evolve(s, stated("f", fact)); s.Items["top"].Requires == nil {
		t.Errorf("requirements are lost: %+v", s.Items)
	}
}

func TestReleaseIsCompleteWithItsLastItem(t *testing.T) {
	s := after(t, shop, worth("a", 8, 4), worth("b", 9, 3), worth("c", 1, 40), plans("r1", 8), closes("a", "completed"))
	if fact, ok := Decide("shop", s, shop, events.Event{Kind: events.Stated, Content: events.BacklogRanked{}}); ok {
		t.Fatalf("b is open, and got %+v", fact)
	}
	fact, _ := Decide("shop", s, shop, closes("b", "declined"))
	s = Evolve(s, stated("f", fact))
	fact, ok := Decide("shop", s, shop, events.Event{Kind: events.Stated, Content: fact.Content})
	c, _ := fact.Content.(events.ReleaseCompleted)
	if !ok || c.Release != "r1" || !slices.Equal(c.Shipped, []string{"a"}) || !slices.Equal(c.Dropped, []string{"b"}) {
		t.Fatalf("got %+v", c)
	}
	s = Evolve(s, stated("g", fact))
	if s.Release != nil || len(s.Order) != 1 {
		t.Errorf("state %+v", s)
	}
	expectRefusal(t, s, plans("r1", 0), "r1 is over")
}

func TestPlan(t *testing.T) {
	s := after(t, shop, worth("a", 8, 4), worth("b", 9, 3), worth("c", 1, 40))
	fact, _ := Decide("shop", s, shop, plans("r1", 7))
	c, _ := fact.Content.(events.ReleasePlanned)
	if len(c.Items) != 2 || c.Value != 17 || c.Bound != 17 || c.Capacity != 7 || !slices.Equal(c.LeftOut, []string{"c"}) || !strings.Contains(c.Reason, "no other choice is worth more") {
		t.Errorf("got %+v", c)
	}
	if fact.Timer != 0 || fact.SubjectID != "r1" {
		t.Errorf("got %+v", fact)
	}
	expectRefusal(t, State{}, plans("r1", 7), "nothing to plan")
	expectRefusal(t, s, plans("r1", 1), "fits into 1 points")
	expectRefusal(t, s, plans("r1", -1), "capacity")
	expectRefusal(t, s, events.Event{Kind: events.Claim, ID: "c", Content: events.ReleaseCompleted{Release: "r1"}}, "no release is under way")
	expectRefusal(t, s, events.Event{Kind: events.Claim, ID: "c", Content: events.BacklogRanked{}}, "estimate")

	// Another plan takes what the first left, and completes it as the next step.
	s = after(t, shop, worth("a", 8, 4), worth("b", 9, 3), plans("r1", 7), closes("a", "completed"), plans("r2", 7))
	fact, ok := Decide("shop", s, shop, events.Event{Kind: events.Stated, Content: events.ReleasePlanned{Release: "r2"}})
	done, _ := fact.Content.(events.ReleaseCompleted)
	if !ok || done.Release != "r1" || !slices.Equal(done.Shipped, []string{"a"}) || !slices.Equal(done.Dropped, []string{"b"}) {
		t.Errorf("got %+v", done)
	}
	// Planned again under its own name, a release keeps what it has shipped.
	s = after(t, shop, worth("a", 8, 4), worth("b", 9, 3), plans("r1", 7), closes("a", "completed"), worth("d", 9, 3), plans("r1", 7))
	if !slices.Equal(s.Release.Items, []string{"a", "b", "d"}) || s.Release.over() {
		t.Errorf("release %+v", s.Release)
	}
}

func TestRhythm(t *testing.T) {
	p := shop
	p.Capacity.Every = events.Duration(14 * 24 * time.Hour)
	s := after(t, p, worth("a", 8, 4), plans("r1", 0))
	if s.Timer != "fact1" {
		t.Fatalf("timer %q", s.Timer)
	}
	due := func(fact string) events.Event {
		return events.Event{Kind: events.Result, Content: events.DeadlineReached{Fact: fact, Aggregate: Kind, Key: "shop"}}
	}
	if fact, ok := Decide("shop", s, p, due("older")); ok {
		t.Errorf("a deadline that is not pending brings about %+v", fact)
	}
	fact, ok := Decide("shop", s, p, due("fact1"))
	c, _ := fact.Content.(events.ReleasePlanned)
	if !ok || c.Release != "release-2" || fact.Timer != 14*24*time.Hour || !strings.Contains(c.Reason, "takes the place of r1") {
		t.Errorf("got %+v", fact)
	}
	// With nothing to plan the rhythm goes on.
	s.Items, s.Order = nil, nil
	if fact, ok = Decide("shop", s, p, due("fact1")); !ok || fact.Timer == 0 {
		t.Errorf("got %+v", fact)
	}
}

func TestOutsideOwner(t *testing.T) {
	p := shop
	p.Owners = map[events.Phase]string{events.Plan: "jira"}
	if fact, ok := Decide("shop", State{}, p, worth("a", 1, 1)); ok {
		t.Errorf("ranked for jira: %+v", fact)
	}
	order := events.Event{Kind: events.Claim, ID: "c", Principal: "jira", Content: events.BacklogRanked{Places: []events.Place{{Item: "a", Rank: 1, Value: 3, Cost: 1}}}}
	fact, _ := Decide("shop", State{}, p, order)
	if c, ok := fact.Content.(events.BacklogRanked); !ok || len(c.Places) != 1 {
		t.Errorf("got %+v", fact)
	}
	order.Principal = "eve"
	if fact, _ := Decide("shop", State{}, p, order); fact.Content.(events.ClaimRefused).Reason == "" {
		t.Errorf("got %+v", fact)
	}
}

// TestOneEventHoldsTheOrder fills a backlog beyond what an event can carry.
func TestOneEventHoldsTheOrder(t *testing.T) {
	items := map[string]Item{}
	for i := range 6000 {
		id := fmt.Sprintf("item-%04d-%s", i, strings.Repeat("x", 60))
		items[id] = Item{Title: strings.Repeat("t", 80), Value: float64(i%50 + 1), Cost: 3, Requires: []string{"gone"}, Estimate: "0d4c0b0e-0000-5000-8000-000000000000"}
	}
	fact, _ := order(items, "test")
	e := stated("f", fact)
	e.Type, e.Source, e.Project, e.SubjectID, e.Time = events.TypeOf(fact.Content), "/plan", "shop", "shop", time.Unix(0, 0)
	body, err := e.AppendBody(nil)
	if err != nil || len(body) > 1<<20-(64<<10) {
		t.Fatalf("%d bytes, %v", len(body), err)
	}
	c := fact.Content.(events.BacklogRanked)
	if len(c.Places) < 1000 || !strings.Contains(c.Reason, "left out") {
		t.Errorf("%d places in %d bytes: %s", len(c.Places), len(body), c.Reason)
	}
}

func expectRefusal(t *testing.T, s State, e events.Event, word string) {
	t.Helper()
	fact, _ := Decide("shop", s, shop, e)
	if c, ok := fact.Content.(events.ClaimRefused); !ok || !strings.Contains(c.Reason, word) {
		t.Errorf("%T: got %+v, want a refusal that says %q", e.Content, fact.Content, word)
	}
}

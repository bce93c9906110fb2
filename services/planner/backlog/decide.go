package backlog

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/lemnis/lemnis/pkg/events"
)

// Decide says what an event makes of the project's backlog.
func Decide(_ string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	if e.Kind == events.Claim {
		return decideClaim(s, p, e)
	}
	switch c := e.Content.(type) {
	case events.ValueEstimated:
		if p.Runs(events.Plan) {
			return value(s, e, c)
		}
	case events.TicketClosed:
		if p.Runs(events.Plan) {
			return leave(s, e, c.Resolution)
		}
	case events.BacklogRanked:
		if s.Release != nil && s.Release.over() {
			return events.Fact{Content: s.Release.outcome(), SubjectID: s.Release.Name}, true
		}
	case events.ReleasePlanned:
		if len(s.Leaving) > 0 {
			return events.Fact{Content: s.Leaving[0].outcome(), SubjectID: s.Leaving[0].Name}, true
		}
	case events.DeadlineReached:
		if c.Fact != "" && c.Fact == s.Timer && p.Runs(events.Plan) {
			// Also with nothing to plan: the plan of nothing keeps the rhythm.
			plan, _ := choose(s, s.freeName(), capacityOf(p))
			return state(s, p, plan)
		}
	}
	return events.Fact{}, false
}

func decideClaim(s State, p events.Project, e events.Event) (events.Fact, bool) {
	outside := !p.Runs(events.Plan)
	if outside && e.Principal != p.Owner(events.Plan) {
		return events.Refuse(e, fmt.Sprintf("the plan of this project is made by %s", p.Owner(events.Plan)))
	}
	switch c := e.Content.(type) {
	case events.BacklogRanked:
		if outside {
			return adopt(e, c)
		}
		return events.Refuse(e, "the backlog is ordered by value and cost: claim an estimate of the item's value instead")
	case events.ReleasePlanned:
		return claimPlan(s, p, e, c, outside)
	case events.ReleaseCompleted:
		return complete(s, e, c)
	}
	return events.Fact{}, false
}

// value takes an item in, or its new worth; no fact when the order says just that already.
func value(s State, e events.Event, c events.ValueEstimated) (events.Fact, bool) {
	now := Item{Title: shorten(c.Title), Value: c.Value, Cost: c.Cost, Requires: c.Requires, Estimate: e.ID}
	if !finite(c.Value) || !finite(c.Cost) || c.Value < 0 || c.Cost <= 0 {
		return events.Fact{}, false
	}
	old, known := s.Items[c.Item]
	var reason string
	switch {
	case !known:
		reason = fmt.Sprintf("%s is new: %s of value, %s of cost", c.Item, points(now.Value), points(now.Cost))
	case old.Value != now.Value || old.Cost != now.Cost:
		reason = fmt.Sprintf("%s is now %s of value for %s of cost, it was %s for %s", c.Item, points(now.Value), points(now.Cost), points(old.Value), points(old.Cost))
	case !slices.Equal(old.Requires, now.Requires):
		reason = fmt.Sprintf("%s requires others than before", c.Item)
	case old.Title != now.Title:
		reason = fmt.Sprintf("%s has a new title", c.Item)
	default:
		return events.Fact{}, false
	}
	if known && c.Estimate.Reason != "" {
		reason += ": " + c.Estimate.Reason
	}
	items := maps.Clone(s.Items)
	if items == nil {
		items = map[string]Item{}
	}
	items[c.Item] = now
	return order(items, reason)
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// leave takes a closed item out.
func leave(s State, e events.Event, resolution string) (events.Fact, bool) {
	_, open := s.Items[e.Key]
	if !open && !s.promised(e.Key) {
		return events.Fact{}, false
	}
	items := maps.Clone(s.Items)
	delete(items, e.Key)
	return order(items, fmt.Sprintf("%s is closed: %s", e.Key, resolution), closing(e.ID, e.Key, resolution))
}

// promised reports whether a release that is not complete waits for the item.
func (s State) promised(item string) bool {
	waits := func(r Release) bool { return slices.Contains(r.Items, item) && r.Closed[item] == "" }
	return s.Release != nil && waits(*s.Release) || slices.ContainsFunc(s.Leaving, waits)
}

func order(items map[string]Item, reason string, links ...events.Link) (events.Fact, bool) {
	places, leftOut := rank(items)
	if leftOut > 0 {
		reason += fmt.Sprintf("; the last %d of %d are left out, one event cannot hold them", leftOut, len(places)+leftOut)
	}
	ids := make([]string, len(places))
	for i, p := range places {
		ids[i] = p.Item
	}
	if places == nil {
		places = []events.Place{}
	}
	return events.Fact{Content: events.BacklogRanked{Places: places, Reason: reason}, Links: append(links, requirements(items, ids)...)}, true
}

func claimPlan(s State, p events.Project, e events.Event, c events.ReleasePlanned, outside bool) (events.Fact, bool) {
	name := c.Release
	if name == "" {
		name = e.Key
	}
	switch {
	case slices.Contains(s.Done, name) || slices.ContainsFunc(s.Leaving, func(r Release) bool { return r.Name == name }):
		return events.Refuse(e, fmt.Sprintf("release %s is over; give the next one another name", name))
	case !finite(c.Capacity) || c.Capacity < 0 || c.Capacity > 1e6:
		return events.Refuse(e, fmt.Sprintf("the capacity %g has to be 0 (the project's own) to 1000000 points", c.Capacity))
	case outside:
		c.Release = name
		return events.Fact{Content: c, SubjectID: name}, true
	case len(s.Items) == 0:
		return events.Refuse(e, "no item is open: there is nothing to plan")
	}
	capacity := c.Capacity
	if capacity == 0 {
		capacity = capacityOf(p)
	}
	plan, ok := choose(s, name, capacity)
	if !ok {
		return events.Refuse(e, fmt.Sprintf("no open item, with what it requires, fits into %s points", points(capacity)))
	}
	return state(s, p, plan)
}

// state makes the fact of a plan, with the deadline of the next one.
func state(s State, p events.Project, plan events.ReleasePlanned) (events.Fact, bool) {
	if s.Release != nil && s.Release.Name != plan.Release {
		left := len(s.Release.Items) - len(s.Release.Closed)
		plan.Reason += fmt.Sprintf("; it takes the place of %s, of which %d were still open", s.Release.Name, left)
	}
	return events.Fact{Content: plan, SubjectID: plan.Release, Timer: rhythm(p)}, true
}

// freeName is a name for a release that nobody has named.
func (s State) freeName() string {
	taken := func(name string) bool {
		return slices.Contains(s.Done, name) || s.Release != nil && s.Release.Name == name ||
			slices.ContainsFunc(s.Leaving, func(r Release) bool { return r.Name == name })
	}
	for n := s.Releases + 1; ; n++ {
		if name := fmt.Sprintf("release-%d", n); !taken(name) {
			return name
		}
	}
}

// complete ends a release by hand; what is still open of it counts as dropped.
func complete(s State, e events.Event, c events.ReleaseCompleted) (events.Fact, bool) {
	name := c.Release
	if name == "" {
		name = e.Key
	}
	if s.Release == nil {
		return events.Refuse(e, "no release is under way")
	}
	if s.Release.Name != name {
		return events.Refuse(e, fmt.Sprintf("the release under way is %s, not %s", s.Release.Name, name))
	}
	return events.Fact{Content: s.Release.outcome(), SubjectID: name}, true
}

// adopt takes the order of the tool that owns the plan. Items that it does not name any more have
// left the backlog; what they require is not known from it.
func adopt(e events.Event, c events.BacklogRanked) (events.Fact, bool) {
	seen := map[string]bool{}
	for i, p := range c.Places {
		if p.Item == "" || seen[p.Item] {
			return events.Refuse(e, fmt.Sprintf("place %d names no item, or one that has a place already", i+1))
		}
		seen[p.Item] = true
	}
	return events.Fact{Content: c}, true
}

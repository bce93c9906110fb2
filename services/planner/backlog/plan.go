package backlog

import (
	"fmt"
	"slices"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/planner/release"
)

const (
	defaultCapacity = 40.0 // points
	mostLeftOut     = 200  // ids that a plan names as left out
)

// choose is the content of a plan; ok is false when no item fits.
func choose(s State, name string, capacity float64) (plan events.ReleasePlanned, ok bool) {
	best := release.Choose(candidates(s.Items), capacity)
	plan = events.ReleasePlanned{Release: name, Capacity: capacity, Value: best.Value, Cost: best.Cost, Bound: best.Bound, Items: []events.Place{}}
	for _, id := range best.Items {
		it := s.Items[id]
		plan.Items = append(plan.Items, events.Place{
			Item: id, Title: it.Title, Rank: len(plan.Items) + 1, Value: it.Value, Cost: it.Cost, Score: it.Value / it.Cost,
			Reason: chosenFor(s.Items, id, best.Items),
		})
	}
	out := 0
	for _, id := range s.Order {
		if slices.Contains(best.Items, id) {
			continue
		}
		if out++; out <= mostLeftOut {
			plan.LeftOut = append(plan.LeftOut, id)
		}
	}
	plan.Reason = verdict(best, capacity, out)
	return plan, len(best.Items) > 0
}

// chosenFor says what an item is in the plan for: its own value, or what needs it.
func chosenFor(items map[string]Item, id string, chosen []string) string {
	var needs []string
	for _, other := range chosen {
		if other != id && slices.Contains(items[other].Requires, id) {
			needs = append(needs, other)
		}
	}
	it := items[id]
	words := fmt.Sprintf("%s of value for %s of cost", points(it.Value), points(it.Cost))
	if len(needs) > 0 {
		words += "; needed by " + list(needs)
	}
	return words
}

func verdict(p release.Plan, capacity float64, leftOut int) string {
	words := fmt.Sprintf("%d items worth %s for %s of %s points; ", len(p.Items), points(p.Value), points(p.Cost), points(capacity))
	if p.Exact {
		words += "no other choice is worth more"
	} else {
		words += fmt.Sprintf("no choice is worth more than %s, so at most %.1f %% is given away", points(p.Bound), (p.Bound-p.Value)/p.Bound*100)
	}
	if leftOut > 0 {
		words += fmt.Sprintf("; %d open items are left out", leftOut)
	}
	return words
}

// capacityOf is the capacity of a project's releases, in points.
func capacityOf(p events.Project) float64 {
	if p.Capacity.Points > 0 {
		return p.Capacity.Points
	}
	return defaultCapacity
}

// rhythm is the time until the next plan; 0 when releases are planned only when asked.
func rhythm(p events.Project) time.Duration { return max(time.Duration(p.Capacity.Every), 0) }

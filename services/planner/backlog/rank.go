package backlog

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/planner/release"
)

const (
	longestTitle = 80        // runes of a title in a place
	mostBytes    = 600 << 10 // of one order: an event has 1 MiB, and headers
	measureFrom  = 500       // places; fewer always fit
	linkBytes    = 150       // of one relation, without its ids
)

// candidates lists the open items for package release, by id.
func candidates(items map[string]Item) []release.Item {
	out := make([]release.Item, 0, len(items))
	for id, it := range items {
		out = append(out, release.Item{ID: id, Value: it.Value, Cost: it.Cost, Requires: it.Requires})
	}
	slices.SortFunc(out, func(a, b release.Item) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// rank orders the open items and says of each place why. What does not fit into one event is left out, the last places first.
func rank(items map[string]Item) (places []events.Place, leftOut int) {
	for _, bundle := range release.Order(candidates(items)) {
		head := bundle.Items[len(bundle.Items)-1]
		for _, id := range bundle.Items {
			it := items[id]
			places = append(places, events.Place{
				Item: id, Title: shorten(it.Title), Rank: len(places) + 1, Value: it.Value, Cost: it.Cost,
				Score: math.Round(it.Value/it.Cost*1000) / 1000, Reason: why(items, id, head, bundle),
			})
		}
	}
	if len(places) < measureFrom {
		return places, 0
	}
	fit := fitting(items, places)
	return places[:fit], len(places) - fit
}

// fitting is the number of places, with their relations, that one event can hold.
func fitting(items map[string]Item, places []events.Place) int {
	size := 0
	for i, p := range places {
		encoded, err := json.Marshal(p)
		if err != nil { // a number that is none: Route's callers let none in
			return i
		}
		size += len(encoded)
		for _, r := range items[p.Item].Requires {
			size += linkBytes + len(p.Item) + len(r)
		}
		if size > mostBytes {
			return i
		}
	}
	return len(places)
}

// why says in words what gave an item its place.
func why(items map[string]Item, id, head string, bundle release.Bundle) string {
	it := items[id]
	words := fmt.Sprintf("%s of value for %s of cost, %.2f a point", points(it.Value), points(it.Cost), it.Value/it.Cost)
	if len(bundle.Items) > 1 {
		together := fmt.Sprintf("together %.2f a point", bundle.Value/bundle.Cost)
		switch {
		case id != head:
			words += fmt.Sprintf("; comes with %s, which needs it: %s", head, together)
		default:
			words += fmt.Sprintf("; with the %d it needs: %s", len(bundle.Items)-1, together)
		}
	}
	var missing []string
	for _, r := range it.Requires {
		if _, open := items[r]; !open {
			missing = append(missing, r)
		}
	}
	if len(missing) > 0 {
		words += "; not waiting for " + list(missing) + ", not open here"
	}
	return words
}

func points(x float64) string { return fmt.Sprintf("%.4g", x) }

// list names a few, and counts the others.
func list(ids []string) string {
	const named = 3
	if len(ids) <= named {
		return strings.Join(ids, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(ids[:named], ", "), len(ids)-named)
}

func shorten(title string) string {
	if r := []rune(title); len(r) > longestTitle {
		return string(r[:longestTitle-1]) + "…"
	}
	return title
}

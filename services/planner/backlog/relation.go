package backlog

import (
	"slices"

	"github.com/lemnis/lemnis/pkg/events"
)

// Kinds of relations that an order carries, and the names of their tags.
const (
	requires = "REQUIRES"
	closed   = "CLOSED"

	tagItem       = "item"
	tagRequires   = "requires"
	tagResolution = "resolution"
)

// requirements are the relations of the items of an order, by the order. The link's context is the estimate that says so.
func requirements(items map[string]Item, order []string) []events.Link {
	var links []events.Link
	for _, id := range order {
		it := items[id]
		for _, r := range it.Requires {
			links = append(links, events.Link{Type: events.Relation, Kind: requires, Context: it.Estimate, Tags: map[string]string{tagItem: id, tagRequires: r}})
		}
	}
	return links
}

// closing is the relation to the closing of an item.
func closing(event, item, resolution string) events.Link {
	return events.Link{Type: events.Relation, Kind: closed, Context: event, Tags: map[string]string{tagItem: item, tagResolution: resolution}}
}

// require reads a requirement back into the items, which are the caller's own.
func require(items map[string]Item, l events.Link) {
	it, ok := items[l.Tags[tagItem]]
	if !ok {
		return
	}
	it.Requires, it.Estimate = append(slices.Clone(it.Requires), l.Tags[tagRequires]), l.Context
	items[l.Tags[tagItem]] = it
}

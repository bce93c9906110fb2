// Package backlog orders the open items of a project and chooses releases from them. One aggregate a project.
//
// Every change of an item's worth, and every closing, states the whole order again, each place with its reason. What a
// later decision needs of an order beside its places travels in the fact's links, since an aggregate knows only its
// own facts: a relation REQUIRES says which item requires which, a relation CLOSED which item left the backlog, and how.
//
// A release is complete when the last of its items has left the backlog. Planning another one before that carries
// what is left over, and completes the one before with that as dropped.
package backlog

import (
	"maps"
	"slices"

	"github.com/lemnis/lemnis/pkg/events"
)

// Kind names the aggregate.
const Kind = "backlog"

// Version of the fold.
const Version = 1

// completed is the resolution of an item that reached its users.
const completed = "completed"

// State is what is known of a backlog. Maps and slices are never changed in place.
type State struct {
	Items    map[string]Item `json:"items,omitempty"`   // open, by id
	Order    []string        `json:"order,omitempty"`   // as last ranked, best first
	Release  *Release        `json:"release,omitempty"` // under way
	Leaving  []Release       `json:"leaving,omitempty"` // replaced before they were complete; oldest first
	Done     []string        `json:"done,omitempty"`    // names of the latest complete releases
	Releases int             `json:"releases,omitempty"`
	Timer    string          `json:"timer,omitempty"` // id of the fact whose deadline is pending
}

// Item is an open item as the order sees it.
type Item struct {
	Title    string   `json:"title,omitempty"`
	Value    float64  `json:"value"`
	Cost     float64  `json:"cost"`
	Requires []string `json:"requires,omitempty"`
	Estimate string   `json:"estimate,omitempty"` // id of the event that says what it requires
}

// Release is a release under way.
type Release struct {
	Name   string            `json:"name"`
	Items  []string          `json:"items"`
	Closed map[string]string `json:"closed,omitempty"` // resolution of those that left the backlog
}

func (r Release) over() bool { return len(r.Closed) >= len(r.Items) }

// outcome parts the items into those that reached their users and the others.
func (r Release) outcome() events.ReleaseCompleted {
	c := events.ReleaseCompleted{Release: r.Name, Shipped: []string{}}
	for _, id := range r.Items {
		if r.Closed[id] == completed {
			c.Shipped = append(c.Shipped, id)
		} else {
			c.Dropped = append(c.Dropped, id)
		}
	}
	return c
}

// closing is the release with one more item closed.
func (r Release) closing(item, resolution string) Release {
	if !slices.Contains(r.Items, item) {
		return r
	}
	r.Closed = maps.Clone(r.Closed)
	if r.Closed == nil {
		r.Closed = map[string]string{}
	}
	r.Closed[item] = resolution
	return r
}

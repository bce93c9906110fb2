// Package item decides what becomes of a work item: that it is opened, what it is worth and costs, and that it is done.
// One aggregate a ticket. What several sources hold an item to be worth is weighed here, so that the backlog only has
// to order.
//
// An item comes from a claim (a person, a tracker), from an insight that enough users share (its id is the insight's),
// or from a lesson about something that was already shipped (its id is the lesson's).
package item

import "github.com/lemnis/lemnis/pkg/events"

// Kind names the aggregate.
const Kind = "item"

// Version of the fold.
const Version = 1

// Where an item stands.
const (
	Open   = "open"
	Closed = "closed"
)

// State is what is known of an item. Slices are never changed in place.
type State struct {
	Status    string              `json:"status,omitempty"` // empty: there is none yet
	Ticket    events.Ticket       `json:"ticket"`
	Detail    events.TicketDetail `json:"detail"`
	Estimates []events.Estimate   `json:"estimates,omitempty"` // the latest of each source and author, in order of arrival
	Lessons   []string            `json:"lessons,omitempty"`   // that raised the cost
	Stated    *Worth              `json:"stated,omitempty"`    // what the latest estimate said of the item as a whole
}

// Worth is what the backlog knows of an item.
type Worth struct {
	Title    string   `json:"title"`
	Feature  string   `json:"feature,omitempty"`
	Value    float64  `json:"value"`
	Cost     float64  `json:"cost"`
	Requires []string `json:"requires,omitempty"`
}

package service

import (
	"fmt"

	"github.com/lemnis/lemnis/pkg/events"
)

// A small domain for the proof, in which order matters everywhere: what is said of an item
// depends on how often it was touched, what is said of the board on the order of the items.

// Mistakes in a service's code: what such updates say can not be decided on, or not be folded.
const (
	undecidable = "undecidable"
	unfoldable  = "unfoldable"
)

type itemState struct {
	Known, Closed bool
	Touched       int
}

func itemRules() Rules[itemState] {
	return Rules[itemState]{
		Kind: "item", Version: 1,
		Takes: []events.Type{events.TypeOf(events.TicketCreated{}), events.TypeOf(events.TicketUpdated{})},
		Route: func(_ events.Project, e events.Event) []string {
			switch e.Content.(type) {
			case events.TicketCreated, events.TicketUpdated, events.TicketClosed:
				return []string{e.Key}
			}
			return nil
		},
		Evolve: func(s itemState, f events.Event) itemState {
			switch c := f.Content.(type) {
			case events.TicketCreated:
				s.Known = true
			case events.TicketUpdated:
				if c.Summary == unfoldable {
					panic(unfoldable)
				}
				s.Touched++
			case events.TicketClosed:
				s.Closed = true
			}
			return s
		},
		Decide: func(key string, s itemState, _ events.Project, e events.Event) (events.Fact, bool) {
			if e.Kind == events.Stated { // the step after one's own fact
				if _, ok := e.Content.(events.TicketCreated); ok {
					return events.Fact{Content: events.ValueEstimated{Item: key, Value: float64(s.Touched)}}, true
				}
				return events.Fact{}, false
			}
			switch c := e.Content.(type) {
			case events.TicketCreated:
				if s.Known {
					return events.Refuse(e, "it exists")
				}
				return events.Fact{Content: c}, true
			case events.TicketUpdated:
				if c.Summary == undecidable {
					panic(undecidable)
				}
				if !s.Known || s.Closed {
					return events.Refuse(e, "it is not open")
				}
				if s.Touched%3 == 2 { // some claims change nothing, and are refused by the runtime
					return events.Fact{}, false
				}
				c.UpdatedBy = fmt.Sprintf("update %d", s.Touched+1)
				return events.Fact{Content: c}, true
			case events.TicketClosed:
				if !s.Known || s.Closed {
					return events.Refuse(e, "it is not open")
				}
				c.Resolution = fmt.Sprintf("after %d updates", s.Touched)
				return events.Fact{Content: c}, true
			}
			return events.Fact{}, false
		},
	}
}

type boardState struct {
	Rankings int
	Last     string
}

// The board takes every estimate of its project, and states nothing for every third: decisions
// without a fact are part of the proof.
func boardRules() Rules[boardState] {
	return Rules[boardState]{
		Kind: "board", Version: 1,
		Takes: []events.Type{events.TypeOf(events.ValueEstimated{}), events.TypeOf(events.TicketUpdated{})},
		Route: func(_ events.Project, e events.Event) []string {
			switch e.Content.(type) {
			case events.ValueEstimated, events.TicketUpdated:
				if e.Kind == events.Stated {
					return []string{e.Project}
				}
			}
			return nil
		},
		Evolve: func(s boardState, f events.Event) boardState {
			if c, ok := f.Content.(events.BacklogRanked); ok {
				return boardState{Rankings: s.Rankings + 1, Last: c.Places[0].Item}
			}
			return s
		},
		Decide: func(_ string, s boardState, _ events.Project, e events.Event) (events.Fact, bool) {
			if e.Key == s.Last {
				return events.Fact{}, false
			}
			return events.Fact{Content: events.BacklogRanked{
				Places: []events.Place{{Item: e.Key, Rank: s.Rankings + 1, Reason: "after " + s.Last}},
			}}, true
		},
	}
}

func proofDefinition() Definition {
	return Definition{Phase: events.Plan, Aggregates: []Aggregate{Of(itemRules()), Of(boardRules())}}
}

// Package planner is the service of the plan phase: it keeps a backlog whose order maximises value, chooses releases
// from it, and says which configuration of a project is in force.
//
// It subscribes to what people and trackers claim (tickets, estimates, releases, configurations), to insights and
// lessons of the learn phase, and to what reached the users of the last environment. From each it decides facts:
//
//	insight found (confirmed) → ticket created → value estimated → backlog ranked
//	value estimated (a claim) → value estimated, all sources weighed → backlog ranked
//	lesson learned → value estimated (dearer), or a ticket of its own → backlog ranked
//	release planned (a claim, or the rhythm's deadline) → release planned, with the proven bound of its value
//	service published in the last environment → ticket closed → backlog ranked → release completed
//
// The decisions are pure and live in one package a noun: configuration, item, backlog; release holds the choice itself.
// There are no effects: the planner touches nothing but the stream.
//
// # What it does not do yet
//
//   - Estimates are weighed by their confidence as given; they are not calibrated by what shipped items turned out to be worth.
//   - A release knows prerequisites and a capacity, but no must-haves, exclusions or deadlines of items.
//   - The rhythm (capacity.every) begins with the first release that is planned by hand.
//   - An insight that goes on growing after its item has shipped opens no second item.
//   - An order holds as many items as fit into one event, some two thousand; the last ones are left out, with a word.
//   - A claim cannot clear a ticket's field: what it does not carry stays.
//   - Where an outside tool owns the plan, its order and releases are adopted; prerequisites are then not known.
package planner

import (
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/planner/backlog"
	"github.com/lemnis/lemnis/services/planner/configuration"
	"github.com/lemnis/lemnis/services/planner/item"
)

// New is the planner, for the runtime to run.
func New() service.Definition {
	return service.Definition{
		Phase: events.Plan,
		Aggregates: []service.Aggregate{
			service.Of(configurations()),
			service.Of(items()),
			service.Of(backlogs()),
		},
		Timers: []events.Type{events.TypeOf(events.ReleasePlanned{})},
	}
}

func configurations() service.Rules[configuration.State] {
	return service.Rules[configuration.State]{
		Kind: configuration.Kind, Version: configuration.Version, Takes: configuration.Takes(),
		Route: configuration.Route, Evolve: configuration.Evolve, Decide: configuration.Decide,
	}
}

func items() service.Rules[item.State] {
	return service.Rules[item.State]{
		Kind: item.Kind, Version: item.Version, Takes: item.Takes(),
		Route: item.Route, Evolve: item.Evolve, Decide: item.Decide,
	}
}

func backlogs() service.Rules[backlog.State] {
	return service.Rules[backlog.State]{
		Kind: backlog.Kind, Version: backlog.Version, Takes: backlog.Takes(),
		Route: backlog.Route, Evolve: backlog.Evolve, Decide: backlog.Decide,
	}
}

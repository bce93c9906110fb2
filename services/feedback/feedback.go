// Package feedback is the service of the learn phase: it understands what users say, groups it into insights, and
// draws delivery figures and lessons from what happened, all of it for the next plan.
//
// It subscribes to feedback (claims), and to what reached users, was taken back, or was repaired:
//
//	feedback received → [understand] → insight found, confirmed once enough users say the same
//	service published, rolled back, incident resolved → metrics computed
//	incident resolved → lesson learned
//
// The decisions are pure and live in one package a noun: feedback, insight, lesson, delivery. The one effect opens a
// user's words with that user's key, and reports what they are about without them.
//
// # What it does not do yet
//
//   - Words are understood by an English lexicon; other languages count by their rating and by the words that they share.
//   - A theme never splits, and two themes that turn out to be one are not joined.
//   - Success teaches no lesson, realised value is not measured, and nobody is told what became of a wish.
//   - The figures run from the first deployment on; there is no window, and no figure for waiting against working.
//   - An incident that names no rollout has a recovery time, but counts as no failed deployment.
package feedback

import (
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/feedback/delivery"
	"github.com/lemnis/lemnis/services/feedback/feedback"
	"github.com/lemnis/lemnis/services/feedback/insight"
	"github.com/lemnis/lemnis/services/feedback/lesson"
)

// Options are what the service needs from outside.
type Options struct {
	Keys Keys // opens users' words; required
}

// New is the feedback service, for the runtime to run.
func New(o Options) service.Definition {
	return service.Definition{
		Phase: events.Learn,
		Aggregates: []service.Aggregate{
			service.Of(pieces()), service.Of(insights()), service.Of(lessons()), service.Of(deliveries()),
		},
		Effects: []service.Effect{understanding(o.Keys)},
	}
}

func pieces() service.Rules[feedback.State] {
	return service.Rules[feedback.State]{
		Kind: feedback.Kind, Version: feedback.Version, Takes: feedback.Takes(),
		Route: feedback.Route, Evolve: feedback.Evolve, Decide: feedback.Decide,
	}
}

func insights() service.Rules[insight.State] {
	return service.Rules[insight.State]{
		Kind: insight.Kind, Version: insight.Version, Takes: insight.Takes(),
		Route: insight.Route, Evolve: insight.Evolve, Decide: insight.Decide,
	}
}

func lessons() service.Rules[lesson.State] {
	return service.Rules[lesson.State]{
		Kind: lesson.Kind, Version: lesson.Version, Takes: lesson.Takes(),
		Route: lesson.Route, Evolve: lesson.Evolve, Decide: lesson.Decide,
	}
}

func deliveries() service.Rules[delivery.State] {
	return service.Rules[delivery.State]{
		Kind: delivery.Kind, Version: delivery.Version, Takes: delivery.Takes(),
		Route: delivery.Route, Evolve: delivery.Evolve, Decide: delivery.Decide,
	}
}

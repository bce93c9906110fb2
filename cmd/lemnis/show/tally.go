package show

import (
	"slices"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Row is what one phase did.
type Row struct {
	Phase  events.Phase
	Events int           // claims and facts
	Work   time.Duration // somebody or something was at it
	Wait   time.Duration // nobody was, and something waited: for a person, a worker, or for traffic to judge by
}

// Tally derives from the facts how long each phase worked and waited. Each fact puts its aggregate into a state that lasts
// until the aggregate's next fact; what a state means stands in the tables below. Spans that overlap, of two rollouts or of
// two changes, count once, and what waits while the phase works on something else counts as work: so work and waiting together are at
// most the time that has passed. The last fact of an aggregate begins no span: nothing says how long it lasts. The events have to be in the order of the stream.
func Tally(all []events.Event) []Row {
	type aggregate struct {
		project, kind, key string
		phase              events.Phase
	}
	before := map[aggregate]events.Event{}
	work, wait := map[events.Phase][]span{}, map[events.Phase][]span{}
	count := map[events.Phase]int{}
	for _, e := range all {
		count[e.Phase]++
		if e.Kind != events.Stated {
			continue
		}
		own := aggregate{e.Project, e.Aggregate, e.Key, e.Phase}
		if last, ok := before[own]; ok && at(e).After(at(last)) {
			s := span{at(last), at(e)}
			switch stateAfter(last) {
			case working:
				work[e.Phase] = append(work[e.Phase], s)
			case waiting:
				wait[e.Phase] = append(wait[e.Phase], s)
			}
		}
		before[own] = e
	}
	rows := make([]Row, 0, 6)
	for _, p := range events.Phases() {
		rows = append(rows, Row{Phase: p, Events: count[p], Work: length(work[p]), Wait: length(append(wait[p], work[p]...)) - length(work[p])})
	}
	return rows
}

type condition int

const (
	over condition = iota // nothing goes on any more
	working
	waiting
)

// stateAfter says what goes on after a fact.
func stateAfter(e events.Event) condition {
	switch c := e.Content.(type) {
	case events.PipelineRunStarted, events.BuildStarted, // the machine compiles and tests
		events.DeploymentRequested, events.GateEvaluated, events.DeploymentStarted, events.ServiceDeployed, events.ServiceUpgraded,
		events.TestSuiteRunFinished, events.CanaryJudged, events.DeploymentFailed, events.DeploymentAborted, events.ApprovalGiven,
		events.QueueTested, events.IncidentDetected, events.RemediationStarted, events.RemediationFinished:
		return working
	case events.PipelineRunQueued, events.BuildQueued, events.QueueEntered, events.QueueSurveyed, events.QueuePlanned, // for a worker, or for the run
		events.ChangeCreated, events.ChangeUpdated, // for a review
		events.ApprovalRequested, events.DeploymentPaused, // for a person
		events.CanaryObserved,                       // for users to come by
		events.TicketCreated, events.ValueEstimated: // for a release, and to be shipped
		return waiting
	case events.CanaryStepped:
		if c.Weight < 1 {
			return waiting // for traffic
		}
		return working // the version of before drains
	}
	return over
}

type span struct{ from, to time.Time }

// length is how much time the spans cover together.
func length(spans []span) time.Duration {
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	var total time.Duration
	var until time.Time
	for _, s := range spans {
		if s.from.Before(until) {
			s.from = until
		}
		if s.to.After(s.from) {
			total += s.to.Sub(s.from)
			until = s.to
		}
	}
	return total
}

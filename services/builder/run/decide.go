package run

import (
	"fmt"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/queue"
)

// Pipeline is the name of the one pipeline that there is: merge, compile, test, package.
const Pipeline = "merge"

// Decide says what an event makes of the run with this key.
func Decide(key string, s State, p events.Project, e events.Event) (events.Fact, bool) {
	if !p.Runs(events.Integrate) {
		return events.Fact{Content: e.Content, SubjectID: e.SubjectID}, e.Kind == events.Claim
	}
	if e.Kind == events.Claim {
		return events.Refuse(e, fmt.Sprintf("pipelines run here; %s cannot be claimed", e.Type.Short()))
	}
	switch c := e.Content.(type) {
	case events.QueueEntered:
		if e.Kind == events.Stated && !s.Queued {
			return events.Fact{Content: events.PipelineRunQueued{PipelineName: Pipeline, Lemnis: events.RunDetail{Merge: c.Merge}}}, true
		}
	case events.QueuePlanned:
		if e.Kind == events.Stated {
			return planned(key, s, c)
		}
	case events.PipelineRunStarted:
		if e.Kind == events.Result && s.Queued && !s.Finished && e.Attempt > s.Attempt {
			return events.Fact{Content: c}, true
		}
	case events.PipelineRunFinished:
		// A worker that was given up as dead may still report; another has taken its work since.
		if e.Kind == events.Result && s.Queued && !s.Finished && e.Attempt >= s.Attempt && same(c.Lemnis.Merge, s.Merge) {
			return events.Fact{Content: c}, true
		}
	}
	return events.Fact{}, false
}

// planned begins the run of a train, or ends one that does not matter any more.
func planned(key string, s State, c events.QueuePlanned) (events.Fact, bool) {
	for _, r := range c.Begun {
		if queue.RunKey(c.Repository, r.Number) == key && !s.Queued {
			d := events.RunDetail{Merge: events.MergeDetail{Repository: c.Repository}, Assumed: r.Assumed, Changes: r.Changes}
			if n := len(r.Changes); n > 0 {
				d.Merge.Base = r.Changes[n-1].Base
			}
			if len(r.Changes) == 1 { // what is said of the run is said of the change
				d.Merge = r.Changes[0]
			} else {
				d.Merge.Title = fmt.Sprintf("%d changes", len(r.Changes))
			}
			return events.Fact{Content: events.PipelineRunQueued{PipelineName: Pipeline, Lemnis: d}}, true
		}
	}
	if s.Queued && !s.Finished {
		return events.Fact{Content: events.PipelineRunFinished{PipelineName: Pipeline, Outcome: events.Cancelled,
			Errors: "the queue has no use for it any more", Lemnis: s.Train}}, true
	}
	return events.Fact{}, false
}

func same(a, b events.MergeDetail) bool {
	return a.Change == b.Change && a.Round == b.Round && a.Head == b.Head
}

package run

import (
	"fmt"

	"github.com/lemnis/lemnis/pkg/events"
)

// Pipeline is the name of the one pipeline that there is: merge, compile, test, package.
const Pipeline = "merge"

// Decide says what an event makes of the run with this key.
func Decide(_ string, s State, p events.Project, e events.Event) (events.Fact, bool) {
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

func same(a, b events.MergeDetail) bool {
	return a.Change == b.Change && a.Round == b.Round && a.Head == b.Head
}

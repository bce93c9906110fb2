package entry

import (
	"slices"

	"github.com/lemnis/lemnis/pkg/events"
)

// Kind names the aggregate; its key is the change's id.
const Kind = "entry"

// Version of the fold.
const Version = 1

// Takes lists the facts that Route answers to: what becomes of the change in review, how the
// runs of its rounds end, and what the repository's queue plans.
var Takes = []events.Type{
	events.TypeOf(events.ChangeVerified{}),
	events.TypeOf(events.ChangeUpdated{}),
	events.TypeOf(events.ChangeRejected{}),
	events.TypeOf(events.ChangeAbandoned{}),
	events.TypeOf(events.PipelineRunFinished{}),
	events.TypeOf(events.QueuePlanned{}),
}

// Route names the changes that an event concerns.
func Route(_ events.Project, e events.Event) []string {
	key := ""
	switch c := e.Content.(type) {
	case events.ChangeVerified:
		if e.Kind == events.Stated {
			key = c.ID
		}
	case events.ChangeUpdated, events.ChangeRejected, events.ChangeAbandoned:
		if e.Kind == events.Stated {
			key = e.Key
		}
	case events.PipelineRunFinished:
		if e.Kind == events.Stated {
			if len(c.Lemnis.Changes) > 0 {
				return changes(c.Lemnis.Changes)
			}
			key = c.Lemnis.Merge.Change
		}
	case events.QueuePlanned:
		if e.Kind == events.Stated {
			var all []events.MergeDetail
			for _, left := range c.Ejected {
				all = append(all, left.Merge)
			}
			return changes(all)
		}
	case events.ChangeMerged, events.QueueEntered, events.QueueSurveyed, events.QueueEjected:
		if e.Kind != events.Stated {
			key = e.Key
		}
	case events.QueueTested:
		if e.Kind == events.Claim {
			key = e.Key
		}
	}
	if key == "" {
		return nil
	}
	return []string{key}
}

func changes(all []events.MergeDetail) (keys []string) {
	for _, m := range all {
		if m.Change != "" && !slices.Contains(keys, m.Change) {
			keys = append(keys, m.Change)
		}
	}
	return keys
}

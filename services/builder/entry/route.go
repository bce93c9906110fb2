package entry

import "github.com/lemnis/lemnis/pkg/events"

// Kind names the aggregate; its key is the change's id.
const Kind = "entry"

// Version of the fold.
const Version = 1

// Takes lists the facts that Route answers to: what becomes of the change in review, and how the
// runs of its rounds end.
var Takes = []events.Type{
	events.TypeOf(events.ChangeVerified{}),
	events.TypeOf(events.ChangeUpdated{}),
	events.TypeOf(events.ChangeRejected{}),
	events.TypeOf(events.ChangeAbandoned{}),
	events.TypeOf(events.PipelineRunFinished{}),
}

// Route names the change that an event concerns.
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
			key = c.Lemnis.Merge.Change
		}
	case events.ChangeMerged, events.QueueEntered, events.QueueEjected:
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

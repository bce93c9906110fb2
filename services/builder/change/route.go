package change

import "github.com/lemnis/lemnis/pkg/events"

// Kind names the aggregate; its key is the change's id.
const Kind = "change"

// Version of the fold.
const Version = 2

// Takes lists the facts that Route answers to: the change's own, each of which may be the last
// that was missing for the change to be verified.
var Takes = []events.Type{
	events.TypeOf(events.ChangeCreated{}),
	events.TypeOf(events.ChangeUpdated{}),
	events.TypeOf(events.ChangeReviewed{}),
}

// Route names the change that an event concerns.
func Route(_ events.Project, e events.Event) []string {
	if e.Key == "" || e.Phase != events.Develop {
		return nil
	}
	switch e.Content.(type) {
	case events.ChangeCreated, events.ChangeUpdated, events.ChangeReviewed:
		return []string{e.Key}
	case events.ChangeAbandoned, events.ChangeVerified, events.ChangeRejected:
		if e.Kind != events.Stated {
			return []string{e.Key}
		}
	}
	return nil
}

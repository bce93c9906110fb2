package build

import (
	"strconv"

	"github.com/lemnis/lemnis/pkg/events"
)

// Kind names the aggregate. Its key is <change>#<round>, or <repository>@initial.
const Kind = "build"

// Version of the fold.
const Version = 1

// Takes lists the facts that Route answers to.
var Takes = []events.Type{
	events.TypeOf(events.ChangeMerged{}),
	events.TypeOf(events.RepositoryCreated{}),
}

// Route names the build that an event concerns.
func Route(_ events.Project, e events.Event) []string {
	switch c := e.Content.(type) {
	case events.ChangeMerged:
		if e.Kind == events.Stated {
			return []string{e.Key + "#" + strconv.Itoa(c.Lemnis.Round)}
		}
	case events.RepositoryCreated:
		if e.Kind == events.Stated {
			return []string{e.Key + "@initial"}
		}
	case events.BuildStarted, events.BuildFinished:
		if e.Kind != events.Stated {
			return []string{e.Key}
		}
	case events.BuildQueued:
		if e.Kind == events.Claim {
			return []string{e.Key}
		}
	}
	return nil
}

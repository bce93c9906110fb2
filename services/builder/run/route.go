package run

import (
	"strconv"

	"github.com/lemnis/lemnis/pkg/events"
)

// Kind names the aggregate; its key is [Key]'s.
const Kind = "run"

// Version of the fold.
const Version = 1

// Takes lists the facts that Route answers to.
var Takes = []events.Type{events.TypeOf(events.QueueEntered{})}

// Key names the run of one round of a change: <change>#<round>.
func Key(change string, round int) string { return change + "#" + strconv.Itoa(round) }

// Route names the run that an event concerns.
func Route(_ events.Project, e events.Event) []string {
	switch c := e.Content.(type) {
	case events.QueueEntered:
		if e.Kind == events.Stated {
			return []string{Key(c.Merge.Change, c.Merge.Round)}
		}
	case events.PipelineRunStarted, events.PipelineRunFinished:
		if e.Kind != events.Stated {
			return []string{e.Key}
		}
	case events.PipelineRunQueued:
		if e.Kind == events.Claim {
			return []string{e.Key}
		}
	}
	return nil
}

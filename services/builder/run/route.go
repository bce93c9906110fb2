package run

import (
	"strconv"

	"github.com/lemnis/lemnis/pkg/events"

	"github.com/lemnis/lemnis/services/builder/queue"
)

// Kind names the aggregate; its key is [Key]'s, or [queue.RunKey]'s.
const Kind = "run"

// Version of the fold.
const Version = 1

// Takes lists the facts that Route answers to.
var Takes = []events.Type{events.TypeOf(events.QueueEntered{}), events.TypeOf(events.QueuePlanned{})}

// Key names the run of one round of a change: <change>#<round>.
func Key(change string, round int) string { return change + "#" + strconv.Itoa(round) }

// Route names the runs that an event concerns.
func Route(_ events.Project, e events.Event) []string {
	switch c := e.Content.(type) {
	case events.QueueEntered:
		if e.Kind == events.Stated && c.Slots == 0 {
			return []string{Key(c.Merge.Change, c.Merge.Round)}
		}
	case events.QueuePlanned:
		if e.Kind != events.Stated {
			return nil
		}
		var keys []string
		for _, r := range c.Begun {
			keys = append(keys, queue.RunKey(c.Repository, r.Number))
		}
		for _, number := range c.Over {
			keys = append(keys, queue.RunKey(c.Repository, number))
		}
		return keys
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

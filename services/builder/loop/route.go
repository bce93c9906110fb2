package loop

import (
	"cmp"

	"github.com/lemnis/lemnis/pkg/events"
)

// Kind names the aggregate; its key is the work item's id.
const Kind = "loop"

// Version of the fold.
const Version = 1

// Takes is empty: loops are only claimed.
var Takes []events.Type

// Route names the work item that a loop was for.
func Route(_ events.Project, e events.Event) []string {
	c, ok := e.Content.(events.LoopFinished)
	if !ok || e.Kind != events.Claim {
		return nil
	}
	return []string{cmp.Or(c.Item, e.Key)}
}

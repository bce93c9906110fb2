package loop

import (
	"fmt"
	"math"

	"github.com/lemnis/lemnis/pkg/events"
)

// Decide says what a claim makes of the loops of the item with this id.
func Decide(key string, _ State, p events.Project, e events.Event) (events.Fact, bool) {
	c, ok := e.Content.(events.LoopFinished)
	if !ok || e.Kind != events.Claim {
		return events.Fact{}, false
	}
	if c.Item == "" {
		c.Item = key
	}
	if p.Runs(events.Develop) {
		switch {
		case c.Item == "":
			return events.Refuse(e, "the loop names no work item")
		case c.Outcome != events.Success && c.Outcome != events.Failure:
			return events.Refuse(e, fmt.Sprintf("%q is no outcome of a loop; it is %s or %s", c.Outcome, events.Success, events.Failure))
		case c.Seconds < 0 || math.IsNaN(c.Seconds) || math.IsInf(c.Seconds, 0):
			return events.Refuse(e, "the loop's seconds are no length of time")
		}
	}
	return events.Fact{Content: c, SubjectID: e.SubjectID}, true
}

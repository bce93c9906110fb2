package show

import (
	"fmt"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Line is one event on one line: sequence, time of day when it was stored, kind, phase, type, project/key and summary.
func Line(e events.Event, zone *time.Location) string {
	return fmt.Sprintf("%8d  %s  %-5s  %-9s  %-22s  %s/%s  %s", e.Sequence, at(e).In(zone).Format("15:04:05.000"),
		events.KindName(e.Kind), e.Phase, oneLine(e.Type.Short()), e.Project, oneLine(e.Key), Summary(e))
}

// Package alert decides who is told of an incident and remembers who was, and who takes care.
package alert

import (
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Kind names the aggregate; its key is the incident's id.
const Kind = "alert"

// Version of the fold.
const Version = 1

// State of the alert of one incident.
type State struct {
	Sent         []string `json:"sent,omitempty"` // recipients that were told, as "channel:person"
	Tried        []string `json:"tried,omitempty"`
	Acknowledged string   `json:"acknowledged,omitempty"` // by
}

// OnDuty is the person of a rota that is on duty at a time; empty when the rota names nobody. Turns change at midnight
// UTC, weekly ones on Mondays.
func OnDuty(rota events.OnCall, at time.Time) string {
	if len(rota.People) == 0 {
		return ""
	}
	const day = 24 * 3600
	seconds := at.Unix()
	turn := seconds / day
	if seconds%day < 0 {
		turn--
	}
	if rota.Rotation != "daily" {
		turn += 3 // the epoch was a Thursday
		if turn < 0 {
			turn -= 6 // round down
		}
		turn /= 7
	}
	n := int64(len(rota.People))
	return rota.People[(turn%n+n)%n]
}

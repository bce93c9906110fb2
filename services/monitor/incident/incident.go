// Package incident decides when users suffer, or would have, what is done against it, and when it is over. Its key is the
// rollout that a canary test judged bad, what health says is unhealthy, or the id that a person gave it.
package incident

import (
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

// Kind names the aggregate.
const Kind = "incident"

// Version of the fold.
const Version = 1

// Stage is where an incident stands.
type Stage string

// The stages.
const (
	Closed    Stage = "" // none yet, or the last one is resolved
	Open      Stage = "open"
	Remedying Stage = "remedying"
	Remedied  Stage = "remedied"
)

// State of the incident with a key; the same service can have one again.
type State struct {
	Stage    Stage                 `json:"stage,omitempty"`
	ID       string                `json:"id,omitempty"` // subject of its events
	Incident events.Incident       `json:"incident"`
	Detail   events.IncidentDetail `json:"detail"`
	Remedy   string                `json:"remedy,omitempty"` // what was done, or is being done
	Chain    string                `json:"chain,omitempty"`
}

// separator stands between an aggregate's key and the number of its incident.
const separator = "#"

// keyOf is the aggregate's key of an incident's id.
func keyOf(id string) string {
	key, _, _ := strings.Cut(id, separator)
	return key
}

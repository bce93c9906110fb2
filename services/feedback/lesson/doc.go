// Package lesson draws from every resolved incident what the next plan has to know. One aggregate an incident.
//
// An incident whose rollout was taken back teaches that its item costs more than was thought (raise-cost: the item is
// still open); one in what had already reached all users asks for work of its own (reopen).
package lesson

// Kind names the aggregate.
const Kind = "lesson"

// Version of the fold.
const Version = 1

// State is what is known of a lesson.
type State struct {
	Learned bool `json:"learned"`
}

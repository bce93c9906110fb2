// Package rollout decides how an artifact gets into an environment: through the gate, past approvals, as a process
// beside the one that serves, through runtime tests, before a part of the users and then all of them, or back. There is one
// aggregate a service and environment, so that at most one rollout is in flight there; the newest request waits behind it.
//
// What comes next is a function of the state alone (next): each own fact that comes back asks for it, so a step is
// neither lost nor done twice, whatever claim arrived in between.
package rollout

import (
	"strings"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/deployer/canary"
	"github.com/lemnis/lemnis/services/deployer/gate"
)

// Kind names the aggregate; its key is [Key].
const Kind = "rollout"

// Version of the fold.
const Version = 10

// Stage is where the rollout in flight stands.
type Stage string

// The stages. Those marked with a * wait for something from outside; all others lead to a fact at once.
const (
	Idle      Stage = ""
	Requested Stage = "requested"
	Soaking   Stage = "soaking"   // * a deadline: of its soaking, or of a freeze
	Verifying Stage = "verifying" // * the effect verify
	Closed    Stage = "closed"    // the gate is
	Gated     Stage = "gated"     // the gate is open
	Approving Stage = "approving"
	Refused   Stage = "refused"
	Starting  Stage = "starting" // * the effect place; where another tool deploys: its claim, or a deadline
	Placed    Stage = "placed"   // * the effect test
	Tested    Stage = "tested"
	Failing   Stage = "failing"   // its runtime tests failed
	Observing Stage = "observing" // * the effect shift: it serves a part of the users
	Promoted  Stage = "promoted"
	Shifting  Stage = "shifting" // * the effect shift: it shall serve all users
	Undoing   Stage = "undoing"  // * the effect undo
	Undone    Stage = "undone"   // after a bad verdict: the artifact gets barred
)

// Request is an artifact that shall go into the environment.
type Request struct {
	Rollout   events.Rollout `json:"rollout"`
	Promotion gate.Promotion `json:"promotion"`
	Since     time.Time      `json:"since"`           // of the promotion, or of the request where there was none
	Chain     string         `json:"chain,omitempty"` // turn of the loop that it belongs to
}

// Dropped is a request that ended while it waited.
type Dropped struct {
	Request
	Reason string `json:"reason"`
}

// State of the rollouts of one service in one environment.
type State struct {
	Stage   Stage   `json:"stage,omitempty"`
	Current Request `json:"current"` // in flight; its rollout has no id when none is
	// Queued is the newest request behind it.
	Queued *Request `json:"queued,omitempty"`
	// Dropped are requests that nobody works on any more, and that have not been told.
	Dropped []Dropped `json:"dropped,omitempty"`
	// Serving is what serves all users, but for the part that a canary has.
	Serving *events.Instance `json:"serving,omitempty"`

	// Published is when Serving began to serve all users; Good are those before it, the newest last.
	Published time.Time `json:"published,omitzero"`
	// Returned says that users were taken back to Serving.
	Returned bool              `json:"returned,omitempty"`
	Good     []events.Instance `json:"good,omitempty"`
	// Kept runs on without users, to go back to at once.
	Kept *Kept `json:"kept,omitempty"`
	// Revert is what turned out bad after it served all users, until they are back. Suspect is why what is on its way to all
	// users shall go back.
	Revert  *Revert `json:"revert,omitempty"`
	Suspect string  `json:"suspect,omitempty"`

	// TakenBack is what an outside tool took back, until it is barred.
	TakenBack *Revert `json:"takenBack,omitempty"`

	Reason    string   `json:"reason,omitempty"`    // why Closed, Refused, Failing or Undoing
	Approvals []string `json:"approvals,omitempty"` // people, in order
	Paused    bool     `json:"paused,omitempty"`    // by a person
	Halts     []string `json:"halts,omitempty"`     // incidents that hold it

	Step    int       `json:"step,omitempty"`
	Weight  float64   `json:"weight,omitempty"`  // share of users, 0 to 1
	Exposed time.Time `json:"exposed,omitzero"`  // time of the first step
	Tick    int       `json:"tick,omitempty"`    // of the last observation
	Elapsed float64   `json:"elapsed,omitempty"` // seconds, of the last observation
	// Baseline is the process that was started to be compared with the canary; empty: what serves the others is.
	Baseline string       `json:"baseline,omitempty"`
	Canary   canary.State `json:"canary"`
	Due      time.Time    `json:"due,omitzero"`     // until when the outside tool has to have deployed it
	URL      string       `json:"url,omitempty"`    // where users reach it, as the outside tool says
	Held     bool         `json:"held,omitempty"`   // the deadline passed without a decision
	Waived   string       `json:"waived,omitempty"` // who let a held canary go on
	// Overdue says that the time which doubt at the deadline gave has passed too.
	Overdue bool `json:"overdue,omitempty"`

	// Known are the artifacts that were requested here, the newest last: only they can be asked for by hand, since
	// only of them it is known what they proved.
	Known []Request `json:"known,omitempty"`
	// Expired is the last one that an outside tool has not deployed in time.
	Expired *Expired `json:"expired,omitempty"`
	// Drifts are what was found to run otherwise than it has to, and is not mended.
	Drifts []Drift `json:"drifts,omitempty"`
	// Barred are artifacts that may not enter, by digest, with the reason.
	Barred map[string]string `json:"barred,omitempty"`
	// Freed is the sequence of what asked for the newer artifact that ended that any was barred.
	Freed uint64 `json:"freed,omitempty"`
}

// known is how many artifacts are remembered.
const known = 20

// Key of the aggregate of a service in an environment.
func Key(environment, service string) string { return environment + "/" + service }

// SplitKey undoes [Key].
func SplitKey(key string) (environment, service string) {
	environment, service, _ = strings.Cut(key, "/")
	return environment, service
}

// Candidate is the instance in flight that has to run beside the one that serves, and the share of users that it has
// to have; ok is false when none has to run.
func (s State) Candidate() (r events.Rollout, weight float64, ok bool) {
	if s.Current.Rollout.Target == events.OutsideTarget {
		return events.Rollout{}, 0, false
	}
	switch s.Stage {
	case Starting, Placed, Tested:
		return s.Current.Rollout, 0, true
	case Observing, Promoted:
		return s.Current.Rollout, s.Weight, true
	case Shifting:
		return s.Current.Rollout, 1, true
	}
	return events.Rollout{}, 0, false
}

package events

// Content types of an installation's upkeep: what its administrators ask the owner of a phase for.

// DeadLetterResent is a claim: a message that failed for good is to be handled once more, as if it came at this claim's
// place on the stream, with its own principal. Where a phase gave it up, the claim is of that phase and project, and the
// phase's owner acts on it; else it is of no project, for the audit.
type DeadLetterResent struct {
	Letter    uint64 `json:"letter"`              // its sequence among the dead letters
	Where     string `json:"where"`               // the phase, or the inbox, that gave it up
	Origin    uint64 `json:"origin"`              // sequence of the original where it came: on the stream, or in its inbox
	Event     string `json:"event,omitempty"`     // id of the original
	EventType Type   `json:"eventType,omitempty"` // its type
	Principal string `json:"principal,omitempty"` // in whose name it was said
	Aggregate string `json:"aggregate,omitempty"` // kind/key that it failed for; empty: for all that it concerns
	Tries     uint64 `json:"tries,omitempty"`     // how often the work that it asks for was tried
	By        string `json:"by,omitempty"`        // who sends it again
}

// RebuildRequested is a claim: the owner of a phase folds its facts again from the stream, and goes on with these folds.
type RebuildRequested struct {
	Service string `json:"service"` // as it was asked for
	By      string `json:"by,omitempty"`
}

// RebuildReported is a result: how far a rebuild has come.
type RebuildReported struct {
	Request     string   `json:"request"` // id of the claim that asked for it
	Finished    bool     `json:"finished"`
	Failed      string   `json:"failed,omitempty"` // why it ended without an outcome
	Facts       uint64   `json:"facts"`            // folded again so far
	Sequence    uint64   `json:"sequence"`         // of the stream, that it has reached
	Aggregates  int      `json:"aggregates"`       // compared
	Differing   int      `json:"differing"`        // of them were not what the stream says; 0 is expected
	Differences []string `json:"differences,omitempty"`
	Seconds     float64  `json:"seconds"`
}

func init() {
	enter[DeadLetterResent]("dev.cdeventsx.lemnis-deadletter.resent.0.1.0", "", internalOnly)
	enter[RebuildRequested]("dev.cdeventsx.lemnis-rebuild.requested.0.1.0", "", internalOnly)
	enter[RebuildReported]("dev.cdeventsx.lemnis-rebuild.reported.0.1.0", "", internalOnly)
}

package events

import (
	"encoding/json"
	"time"
)

// SpecVersion is the version of the CDEvents specification that every event body states.
const SpecVersion = "0.5.1"

// Kind says in whose voice an event speaks; it is the first token of its subject.
type Kind string

// The three kinds of subject on the stream.
const (
	Claim  Kind = "claims"    // what the outside says
	Result Kind = "results"   // what a service tells itself: effects and timers
	Stated Kind = "lifecycle" // facts: what the owning service says happened
)

// Phase is one of the six phases of the lifecycle.
type Phase string

// The six phases, in the order of the loop.
const (
	Plan      Phase = "plan"
	Develop   Phase = "develop"
	Integrate Phase = "integrate"
	Deploy    Phase = "deploy"
	Operate   Phase = "operate"
	Learn     Phase = "learn"
)

// Phases lists the six phases in the order of the loop.
func Phases() []Phase { return []Phase{Plan, Develop, Integrate, Deploy, Operate, Learn} }

// Valid reports whether p is one of the six phases.
func (p Phase) Valid() bool {
	switch p {
	case Plan, Develop, Integrate, Deploy, Operate, Learn:
		return true
	}
	return false
}

// Event is one CDEvent in its CloudEvents envelope: a claim, a result or a fact.
//
// Content holds a value (not a pointer) of the type that the catalogue binds to Type, for
// example [ChangeMerged]; decision code switches on it. The zero value of an optional field
// means that the event does not carry it.
type Event struct {
	ID     string    // unique together with Source
	Source string    // URI reference of whoever says it
	Type   Type      // full CDEvents type with version
	Time   time.Time // when it happened, as its author says; decisions use Stored

	Project     string // [a-z0-9-]{1,40}
	Phase       Phase  // whose business it is; a function of Type but for tests, refusals and deadlines
	Aggregate   string // kind of aggregate that a fact belongs to, for example "item"
	Key         string // key of that aggregate; of a claim, the subject's id
	Principal   string // who was authenticated as its author; set by the gateway
	Cause       string // id of the event that caused it (causationid)
	TraceParent string // W3C trace context

	CauseSequence  uint64    // stream sequence of a fact's cause
	ConfigRevision uint64    // revision of the project's configuration that a fact was decided under
	Attempt        uint64    // attempt of the effect that a result reports, from 1
	Deadline       time.Time // when a timer that the fact sets is due; zero when it sets none

	Chain string // context.chainId: one turn of the loop
	Links []Link // context.links

	SchemaURI string // context.schemaUri: where its author keeps a further schema

	SubjectID     string // subject.id of the CDEvent
	SubjectSource string // subject.source
	Content       any    // subject.content, typed by the catalogue

	// Custom is customData as it came, with CustomType its media type. What Lemnis adds to a
	// standard type travels in customData under "lemnis" and is found in Content instead.
	Custom     json.RawMessage
	CustomType string

	// Where the event stands on the stream; zero until it was read from it.
	Kind     Kind
	Sequence uint64
	Stored   time.Time // when the stream stored it: the only clock of decisions
}

// LinkType says how an event is tied to another.
type LinkType string

// The link types of CDEvents.
const (
	Path     LinkType = "PATH"     // Context is the cause
	Relation LinkType = "RELATION" // Context is something else that it concerns
	End      LinkType = "END"      // Context ends the chain
)

// Link ties an event to another by that one's id.
type Link struct {
	Type    LinkType
	Kind    string // of a Relation: for example "TRIGGER", "COMPOSITION"
	Context string // id of the other event
	Tags    map[string]string
}

// Fact is what decision code states; the runtime turns it into an [Event] with identity,
// cause, chain and position.
type Fact struct {
	Content   any           // a content type of the catalogue
	SubjectID string        // subject.id; the aggregate's key when empty
	Chain     string        // the cause's chain when empty
	Links     []Link        // what it concerns beside its cause; the link to the cause is added
	Timer     time.Duration // when positive: a deadline, counted from the time the cause was stored
	Phase     Phase         // only for types that several phases state
}

// Refuse is the fact that says no to a claim, with a reason that its author can act on.
func Refuse(claim Event, reason string) (Fact, bool) {
	return Fact{Content: ClaimRefused{Claim: claim.ID, ClaimType: claim.Type, Principal: claim.Principal, Reason: reason}, SubjectID: claim.ID, Phase: claim.Phase}, true
}

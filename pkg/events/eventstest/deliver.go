package eventstest

import (
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Action is what becomes of an event after its handler's verdict.
type Action string

// The actions: an event is done with, comes again, or never.
const (
	Done   Action = "done"
	Again  Action = "again"
	Reject Action = "reject"
)

// Verdict is what a handler said of an event.
type Verdict struct {
	Event  events.Event
	Action Action
	After  time.Duration // of Again: the time that [events.Retry] asked for; 0 is "with backoff"
	Err    error
}

// Deliver hands the events to the handler in this order, each once and as it would come over the
// wire, and returns the verdicts. Events without a sequence are numbered on. It is for seeing
// what a handler says: an event with the verdict [Again] does not come again by itself.
func Deliver(t testing.TB, handle events.Handler, all ...events.Event) []Verdict {
	t.Helper()
	verdicts := make([]Verdict, 0, len(all))
	var sequence uint64
	for _, e := range all {
		m, err := events.Encode(e)
		if err != nil {
			t.Fatalf("eventstest: %v", err)
		}
		got, err := events.Decode(m.Header, m.Data)
		if err != nil {
			t.Fatalf("eventstest: %s would not come over the wire: %v", e.ID, err)
		}
		if sequence = max(sequence+1, e.Sequence); e.Sequence != 0 {
			sequence = e.Sequence
		}
		got.Kind, got.Sequence, got.Stored = e.Kind, sequence, e.Stored
		verdicts = append(verdicts, judge(got, handle(t.Context(), got)))
	}
	return verdicts
}

func judge(e events.Event, err error) Verdict {
	v := Verdict{Event: e, Action: Again, Err: err}
	switch after, retry := events.RetryAfter(err); {
	case err == nil:
		v.Action = Done
	case events.Rejected(err):
		v.Action = Reject
	case retry:
		v.After = after
	}
	return v
}

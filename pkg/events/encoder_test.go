package events_test

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// What one event had and the next has not must not stay in the memory that both are written into.
func TestEncoderForgetsTheEventBefore(t *testing.T) {
	full := events.Event{
		ID: "one", Source: "/a", Type: events.TypeOf(events.TicketCreated{}), Time: time.Unix(1, 0), Project: "shop", Phase: events.Plan,
		Key: "key", SubjectID: "subject", Aggregate: "item", Principal: "ann", Cause: "cause", CauseSequence: 7, ConfigRevision: 3, Attempt: 2,
		Chain: "chain", Deadline: time.Unix(9, 0), Content: events.TicketCreated{Ticket: events.Ticket{Summary: "a long one, so that less is left over", Creator: "ann"}},
	}
	bare := events.Event{
		ID: "two", Source: "/b", Type: events.TypeOf(events.TicketClosed{}), Time: time.Unix(2, 0), Project: "shop", Phase: events.Plan,
		Key: "k", SubjectID: "s", Content: events.TicketClosed{Ticket: events.Ticket{Summary: "short"}},
	}
	var enc events.Encoder
	for _, e := range []events.Event{full, bare, full} {
		want, err := events.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := enc.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Header, want.Header) || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("%s:\n%v %s\nwant\n%v %s", e.ID, got.Header, got.Data, want.Header, want.Data)
		}
		got.Header["Nats-Msg-Id"] = []string{"a publisher's own"}
	}
	if _, err := enc.Encode(events.Event{Content: 1}); err == nil {
		t.Error("a content of no type was encoded")
	}
	if _, err := enc.Encode(bare); err != nil {
		t.Errorf("after a refusal: %v", err)
	}
}

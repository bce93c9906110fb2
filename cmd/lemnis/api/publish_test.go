package api

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// A gateway that is killed may leave a connection that takes what is sent and answers nothing: the claim is to be sent again, over
// another one, while its sender still has time.
func TestAGatewayThatSaysNothing(t *testing.T) {
	var asked atomic.Int32
	silent := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			<-silent
			return
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte(`{}`))
	}))
	defer server.Close()
	defer close(silent)
	c := New(server.URL)
	c.patience = 50 * time.Millisecond
	claim := events.Event{ID: "1", Source: "/test", Type: events.TypeOf(events.TicketCreated{}), Time: time.Now(), Project: "shop", Phase: events.Plan, Principal: "local",
		Key: "1", SubjectID: "1", Chain: "1", Content: events.TicketCreated{Ticket: events.Ticket{Summary: "x", Creator: "ann", URI: "urn:x"}}}
	_, err := c.Publish(t.Context(), claim)
	if err == nil || !Temporary(err) || !Unreachable(err) {
		t.Fatalf("no answer: %v, temporary %t", err, Temporary(err))
	}
	var answer *Error
	for Temporary(err) && !errors.As(err, &answer) {
		_, err = c.Publish(t.Context(), claim)
	}
	if err != nil {
		t.Errorf("again: %v", err)
	}
}

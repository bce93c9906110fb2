package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

// Another event under a source and id that were used is refused, or what was acknowledged would be lost. The same event is
// known again, also where its text differs.
func TestAnotherEventUnderTheSameID(t *testing.T) {
	w := newWorld(t)
	w.shortMemory()
	e := ticket("t1", "Search is slow")
	first := w.claim(e)
	others := map[string]events.Event{}
	for name, change := range map[string]func(*events.Event){
		"type": func(e *events.Event) {
			t := events.Ticket{Summary: "Search is slow", Creator: "ann", URI: "/t1"}
			e.Content = events.TicketUpdated{Ticket: t}
			e.Type = events.TypeOf(e.Content)
		},
		"subject": func(e *events.Event) { e.SubjectID = "t2" },
		"project": func(e *events.Event) { e.Project = "another" },
	} {
		other := e
		change(&other)
		others[name] = other
	}
	reason := "source and id name another event, ticket.created at 1; an id may be used once"
	refused := func(when string) {
		t.Helper()
		for name, other := range others {
			resp, answer := w.send(http.MethodPost, "/events", structured(t, other), "Content-Type", cloudJSON, "Prefer", "wait=5")
			if resp.StatusCode != http.StatusConflict || !strings.Contains(answer, reason) || resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s, another %s: %d %s", when, name, resp.StatusCode, answer)
			}
		}
	}
	refused("at once")
	w.forgotten()
	w.stop()
	w.start()
	refused("by another gateway, when the stream has forgotten")

	same := e
	same.Content = events.TicketCreated{Ticket: events.Ticket{Summary: "Search is very slow", Creator: "ann", URI: "/t1"}}
	third := e
	third.ID = "another id"
	batch := "[" + structured(t, same) + "," + structured(t, others["type"]) + "," + structured(t, third) + "]"
	resp, answer := w.send(http.MethodPost, "/events", batch, "Content-Type", "application/cloudevents-batch+json")
	var each []receipt
	if err := json.Unmarshal([]byte(answer), &each); err != nil || resp.StatusCode != http.StatusMultiStatus || len(each) != 3 {
		t.Fatalf("%d %s", resp.StatusCode, answer)
	}
	if each[0].Status != 202 || !each[0].Duplicate || each[0].Sequence != first.Sequence {
		t.Errorf("the same: %+v", each[0])
	}
	if each[1].Status != 409 || each[1].Detail != reason {
		t.Errorf("another: %+v", each[1])
	}
	if each[2].Status != 202 || each[2].Duplicate {
		t.Errorf("another id: %+v", each[2])
	}

	js := w.submitter()
	for _, name := range []string{"type", "subject", "project"} {
		w.submit(js, "submit.local.shop", structured(t, others[name]))
	}
	w.submit(js, "submit.local.shop", structured(t, same))
	last := ticket("last", "x")
	w.submit(js, "submit.local.shop", structured(t, last))
	w.until("the inbox is read", func() bool { return w.claims() == 3 })
	var l letters
	w.get("/api/v1/deadletters", &l)
	if len(l.DeadLetters) != 3 {
		t.Fatalf("dead letters %+v", l)
	}
	for _, letter := range l.DeadLetters {
		if letter.Reason != reason || letter.Where != "inbox-local" {
			t.Errorf("dead letter %+v", letter)
		}
	}
}

package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/eventstest"
)

// What the handler says of each fact, without a NATS server.
func TestRoomIsTold(t *testing.T) {
	var told []string
	answers := []int{http.StatusOK, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusGone}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var message struct{ Text string }
		if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
			t.Error(err)
		}
		told = append(told, message.Text)
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(answers[len(told)-1])
	}))
	defer hook.Close()
	chat := room{webhook: hook.URL, http: hook.Client()}

	rollout := events.Rollout{ID: "prod/api@1", Environment: "prod", Service: "api"}
	prod := events.Reference{ID: "prod"}
	verdicts := eventstest.Deliver(t, chat.tell,
		eventstest.Fact(events.ChangeMerged{}), // of no interest
		eventstest.Fact(events.ServicePublished{Environment: prod, Lemnis: events.ServiceDetail{Rollout: rollout}}),
		eventstest.Fact(events.ApprovalRequested{Rollout: rollout, Needed: 1}),
		eventstest.Fact(events.IncidentDetected{Incident: events.Incident{Environment: prod, Description: "one request in five fails"}}, eventstest.Key("api-1")),
		eventstest.Fact(events.ServiceRolledback{Environment: prod, Lemnis: events.ServiceDetail{Rollout: rollout, Reason: "errors"}}),
	)
	want := []eventstest.Action{eventstest.Done, eventstest.Done, eventstest.Again, eventstest.Again, eventstest.Reject}
	for i, v := range verdicts {
		if v.Action != want[i] {
			t.Errorf("%s: %s, %v", v.Event.Type.Short(), v.Action, v.Err)
		}
	}
	if verdicts[2].After != 7*time.Second || verdicts[3].After != 0 {
		t.Errorf("again after %v and %v", verdicts[2].After, verdicts[3].After)
	}
	if !slices.Equal(told, []string{
		"🚀 api serves all users of prod",
		"✋ api waits for 1 approval(s) to enter prod: lemnis approve prod/api",
		"🔥 api-1 in prod: one request in five fails",
		"↩️ api was taken back in prod: errors",
	}) {
		t.Errorf("%q", told)
	}
}

func TestRoomIsAway(t *testing.T) {
	hook := httptest.NewServer(nil)
	hook.Close()
	chat := room{webhook: hook.URL, http: http.DefaultClient}
	verdicts := eventstest.Deliver(t, chat.tell, eventstest.Fact(events.IncidentResolved{}))
	if verdicts[0].Action != eventstest.Again {
		t.Errorf("%+v", verdicts[0])
	}
}

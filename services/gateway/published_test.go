package gateway_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/eventstest"
)

// publishedTypes are those of CDEvents 0.5.1.
const publishedTypes = 45

// Every type that CDEvents has published is accepted over HTTP, and found again with equal data.
func TestEveryPublishedType(t *testing.T) {
	w := newWorld(t)
	seen := 0
	for _, e := range eventstest.Examples() {
		if !strings.HasPrefix(string(e.Type), "dev.cdevents.") {
			continue
		}
		seen++
		w.foundAgain(t, "example of "+e.Type.Short(), []byte(body(t, e)))
	}
	if seen != publishedTypes {
		t.Errorf("%d types, want %d", seen, publishedTypes)
	}
}

// foundAgain posts a CDEvent in a CloudEvent, asks for its type, and holds the data against what was sent.
func (w *world) foundAgain(t *testing.T, name string, cdevent []byte) string {
	t.Helper()
	var head struct {
		Context struct{ ID, Source, Type string }
	}
	if err := json.Unmarshal(cdevent, &head); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	resp, answer := w.send(http.MethodPost, "/events", string(cdevent), "Content-Type", "application/json", "ce-specversion", "1.0",
		"ce-id", head.Context.ID, "ce-source", head.Context.Source, "ce-type", head.Context.Type, "ce-project", "shop")
	var r receipt
	if err := json.Unmarshal([]byte(answer), &r); err != nil || resp.StatusCode != http.StatusAccepted {
		t.Errorf("%s: %d %s", name, resp.StatusCode, answer)
		return head.Context.Type
	}
	var p page
	w.get("/events?project=shop&type="+url.QueryEscape(head.Context.Type), &p)
	for _, e := range p.Events {
		if e["id"] != head.Context.ID || e["source"] != head.Context.Source {
			continue
		}
		var sent any
		if err := json.Unmarshal(cdevent, &sent); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(sent, e["data"]) || e["type"] != head.Context.Type || e["kind"] != events.KindName(events.Claim) {
			t.Errorf("%s came back as %v", name, e)
		}
		return head.Context.Type
	}
	t.Errorf("%s is not found again", name)
	return head.Context.Type
}

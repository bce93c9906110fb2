package gateway_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway"
	"github.com/lemnis/lemnis/services/gateway/subscription"
)

// subscribed is the part of an answer that tests look at.
type subscribed struct {
	ID     string `json:"id"`
	Secret string `json:"signingsecret"`
	Sink   string `json:"sink"`
	Status struct {
		State     string `json:"state"`
		Delivered int    `json:"delivered"`
	} `json:"status"`
}

func openSinks(o *gateway.Options) {
	o.PrivateSinks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	o.Patience = subscription.Patience{Least: time.Millisecond, Handshake: 10 * time.Millisecond}
}

func TestSubscriptionsOverHTTP(t *testing.T) {
	w := newWorld(t, openSinks)
	got := make(chan string, 10)
	sink := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("WebHook-Allowed-Origin", "*")
		if r.Method == http.MethodPost {
			body, _ := io.ReadAll(r.Body)
			got <- r.Header.Get("Ce-Type") + " " + string(body)
		}
	}))
	defer sink.Close()
	ask := `{"protocol":"HTTP","sink":"` + sink.URL + `","config":{"project":"shop"},"types":["ticket.created"],"protocolsettings":{"headers":{"X-Token":"geheim"}}}`
	resp, body := w.send(http.MethodPost, "/subscriptions", ask, "Content-Type", "application/json")
	var made subscribed
	if err := json.Unmarshal([]byte(body), &made); err != nil || resp.StatusCode != 201 || resp.Header.Get("Location") != "/subscriptions/"+made.ID || made.Secret == "" {
		t.Fatalf("%d %v: %s", resp.StatusCode, resp.Header, body)
	}
	path := resp.Header.Get("Location")
	w.state(fact("shop", "t1", events.Plan, ticket("t1", "Search is slow").Content))
	if text := <-got; !strings.HasPrefix(text, "dev.cdevents.ticket.created.") || !strings.Contains(text, "Search is slow") {
		t.Errorf("it got %s", text)
	}
	w.until("it shows", func() bool {
		var one subscribed
		w.get(path, &one)
		return one.Status.State == "active" && one.Status.Delivered == 1 && one.Secret == ""
	})
	var list []subscribed
	if w.get("/subscriptions?project=shop", &list); len(list) != 1 || list[0].ID != made.ID {
		t.Errorf("listed: %+v", list)
	}
	if w.get("/subscriptions?project=other", &list); len(list) != 0 {
		t.Errorf("listed of another project: %+v", list)
	}
	if resp, body := w.send(http.MethodPut, path, strings.Replace(ask, "geheim", "***", 1)); resp.StatusCode != 200 || strings.Contains(body, "geheim") {
		t.Errorf("put: %d %s", resp.StatusCode, body)
	}
	for _, test := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"POST", "/subscriptions", `{"protocol":"HTTP"}`, 400, "config.project: "},
		{"POST", "/subscriptions", `{"protocol":"HTTP","protocol":"NATS"}`, 400, `\"protocol\" is there twice`},
		{"POST", "/subscriptions", `{`, 400, "subscription: "},
		{"POST", "/subscriptions", strings.Repeat(" ", 65<<10), 413, "bytes"},
		{"PUT", path, `{"protocol":"HTTP","sink":"https://10.0.0.1/","config":{"project":"shop"}}`, 400, "sink: "},
		{"PUT", "/subscriptions/nothing", ask, 404, "no such"},
		{"GET", "/subscriptions/nothing", "", 404, "no such"},
		{"DELETE", "/subscriptions/nothing", "", 404, "no such"},
		{"PATCH", path, "", 405, "DELETE, GET, HEAD, PUT"},
		{"DELETE", "/subscriptions", "", 405, "POST"},
	} {
		if resp, body := w.send(test.method, test.path, test.body); resp.StatusCode != test.status || !strings.Contains(body, test.says) {
			t.Errorf("%s %s: %d %s", test.method, test.path, resp.StatusCode, body)
		}
	}
	if resp, body := w.send(http.MethodDelete, path, ""); resp.StatusCode != 204 || body != "" {
		t.Errorf("delete: %d %s", resp.StatusCode, body)
	}
	// Each change stands on the stream, without what is secret.
	var changes page
	w.until("the changes show", func() bool {
		w.get("/events?type=subscription.changed", &changes)
		return len(changes.Events) == 3
	})
	text, _ := json.Marshal(changes.Events)
	for _, word := range []string{"created: shop to ", "changed: ", "removed: ", made.ID} {
		if !strings.Contains(string(text), word) {
			t.Errorf("%q is not recorded: %s", word, text)
		}
	}
	if strings.Contains(string(text), "geheim") || strings.Contains(string(text), made.Secret) {
		t.Errorf("a secret is on the stream: %s", text)
	}
}

// subscribe makes a subscription of shop, to a sink that nothing stands for.
func (c *closed) subscribe(who string) (id string) {
	c.t.Helper()
	resp, body := c.as(who, http.MethodPost, "/subscriptions", `{"protocol":"HTTP","sink":"https://sink.invalid/","config":{"project":"shop"}}`)
	var made subscribed
	if err := json.Unmarshal([]byte(body), &made); err != nil || resp.StatusCode != http.StatusCreated {
		c.t.Fatalf("%d: %s", resp.StatusCode, body)
	}
	return made.ID
}

// Who may see and remove a subscription goes by the project that it is about.
func TestSubscriptionsByToken(t *testing.T) {
	c := newClosed(t)
	id := c.subscribe("keeper")
	for who, sees := range map[string]bool{"reader": true, "readsall": true, "keeper": true, "admin": true, "stranger": false, "builds": false} {
		resp, body := c.as(who, http.MethodGet, "/subscriptions", "")
		if resp.StatusCode != http.StatusOK || strings.Contains(body, id) != sees {
			t.Errorf("%s: %d %s", who, resp.StatusCode, body)
		}
	}
	for _, who := range []string{"reader", "stranger", "builds", "service"} {
		if resp, body := c.as(who, http.MethodDelete, "/subscriptions/"+id, ""); resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "admin@shop") {
			t.Errorf("%s: %d %s", who, resp.StatusCode, body)
		}
	}
	if resp, body := c.as("keeper", http.MethodDelete, "/subscriptions/"+id, ""); resp.StatusCode != http.StatusNoContent {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	// The claim for the audit names who did it.
	var changes page
	c.until("it is recorded", func() bool {
		_, body := c.as("admin", http.MethodGet, "/events?type=subscription.changed", "")
		return json.Unmarshal([]byte(body), &changes) == nil && len(changes.Events) == 2
	})
	for _, e := range changes.Events {
		if e["principal"] != "keeper" || e["kind"] != "claim" {
			t.Errorf("%v", e)
		}
	}
}

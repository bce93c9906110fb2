package gateway_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

func TestListEvents(t *testing.T) {
	w := newWorld(t)
	w.claim(ticket("t1", "one"))
	w.state(fact("shop", "t1", events.Plan, ticket("t1", "one").Content))
	result := fact("shop", "t1", events.Plan, ticket("t1", "one").Content)
	m, err := events.Encode(result)
	if err != nil {
		t.Fatal(err)
	}
	m.Subject = result.Subject(events.Result)
	if _, err = w.host.JS.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	w.state(fact("shop", "t2", events.Plan, ticket("t2", "two").Content))
	w.state(fact("shop", "c1", events.Develop, events.ChangeAbandoned{}))
	w.state(fact("bank", "t1", events.Plan, ticket("t1", "three").Content))
	tests := []struct{ query, want string }{
		{"", "claim:t1 fact:t1 fact:t2 fact:c1 fact:t1"},
		{"project=shop", "claim:t1 fact:t1 fact:t2 fact:c1"},
		{"project=nowhere", ""},
		{"phase=develop", "fact:c1"},
		{"type=ticket.created&project=shop", "claim:t1 fact:t1 fact:t2"},
		{"type=dev.cdevents.change.abandoned.0.3.0", "fact:c1"},
		{"key=t1", "claim:t1 fact:t1 fact:t1"},
		{"key=t1&project=bank", "fact:t1"},
		{"after=2", "fact:t2 fact:c1 fact:t1"},
		{"after=99", ""},
		{"limit=2", "claim:t1 fact:t1"},
	}
	for _, tt := range tests {
		var p page
		if w.get("/events?"+tt.query, &p); p.ids() != tt.want {
			t.Errorf("%s: %s, want %s", tt.query, p.ids(), tt.want)
		}
		if (p.Next != nil) != (tt.query == "limit=2") {
			t.Errorf("%s: next %v", tt.query, p.Next)
		}
	}
	// Page by page it is the same.
	all, after := []string{}, ""
	for {
		var p page
		w.get("/events?limit=2&after="+after, &p)
		if p.ids() != "" {
			all = append(all, p.ids())
		}
		if p.Next == nil {
			break
		}
		after = *p.Next
	}
	if got := strings.Join(all, " "); got != tests[0].want {
		t.Errorf("by pages: %s", got)
	}
	for _, bad := range []string{"limit=0", "limit=1001", "limit=x", "after=-1", "phase=nope", "type=nope", "from=yesterday", "to=1", "project=A", "colour=red", "%zz"} {
		if resp, answer := w.send(http.MethodGet, "/events?"+bad, ""); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d %s", bad, resp.StatusCode, answer)
		}
	}
}

// By the times at which the stream stored the events, with pages, and by the aggregate that facts are of.
func TestListEventsByTime(t *testing.T) {
	w := newWorld(t)
	var p page
	empty := "/events?from=" + url.QueryEscape(time.Now().Add(-time.Hour).Format(time.RFC3339))
	if w.get(empty, &p); len(p.Events) != 0 || p.Next != nil {
		t.Errorf("of an empty stream: %+v", p)
	}
	var stored []string
	for i := range 9 {
		f := fact("shop", fmt.Sprint("t", i), events.Plan, events.TicketClosed{Resolution: "completed"})
		f.Aggregate, f.Chain = []string{"item", "release"}[i%2], "turn"
		w.state(f)
	}
	w.until("the chain is known", func() bool { w.get("/events?chain=turn", &p); return len(p.Events) == 9 })
	for _, e := range p.Events {
		stored = append(stored, url.QueryEscape(e["recordedtime"].(string)))
	}
	for query, want := range map[string]string{
		"from=" + stored[7]:                                      "fact:t7 fact:t8",
		"to=" + stored[2]:                                        "fact:t0 fact:t1",
		"from=" + stored[3] + "&to=" + stored[5]:                 "fact:t3 fact:t4",
		"from=" + stored[3] + "&to=" + stored[5] + "&chain=turn": "fact:t3 fact:t4",
		"from=" + stored[3] + "&to=" + stored[3]:                 "",
		"from=2100-01-01T00:00:00Z":                              "",
		"to=2000-01-01T00:00:00Z":                                "",
		"from=2000-01-01T00:00:00Z&limit=1000&aggregate=item":    "fact:t0 fact:t2 fact:t4 fact:t6 fact:t8",
		"aggregate=release&key=t3":                               "fact:t3",
		"aggregate=rollout":                                      "",
		"after=8&from=" + stored[2]:                              "fact:t8",
	} {
		if w.get("/events?"+query, &p); p.ids() != want || p.Next != nil {
			t.Errorf("%s: %s, want %s (next %v)", query, p.ids(), want, p.Next)
		}
	}
	if w.get("/events?limit=2&from="+stored[1]+"&to="+stored[5], &p); p.ids() != "fact:t1 fact:t2" || p.Next == nil {
		t.Fatalf("the first page: %s", p.ids())
	}
	if w.get("/events?limit=2&from="+stored[1]+"&to="+stored[5]+"&after="+*p.Next, &p); p.ids() != "fact:t3 fact:t4" {
		t.Errorf("the second page: %s", p.ids())
	}
	if resp, _ := w.send(http.MethodGet, "/events/stream?from="+stored[1], ""); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a stream with a time: %d", resp.StatusCode)
	}
}

// A claim has the time that its author wrote, and the time at which the stream stored it.
func TestRecordedTime(t *testing.T) {
	w := newWorld(t)
	e := ticket("t1", "old news")
	e.Time = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	w.claim(e)
	var p page
	w.get("/events", &p)
	recorded, err := time.Parse(time.RFC3339Nano, fmt.Sprint(p.Events[0]["recordedtime"]))
	if err != nil || time.Since(recorded).Abs() > time.Minute || p.Events[0]["time"] != "2025-01-01T00:00:00Z" {
		t.Errorf("stored %v, said %v: %v", p.Events[0]["recordedtime"], p.Events[0]["time"], err)
	}
}

// lap puts two events of one chain on the stream.
func lap(w *world, n int) (chain string, e events.Event) {
	e = ticket(fmt.Sprintf("t%d", n), "x")
	e.Chain = fmt.Sprintf("turn %d: 100%%/ü", n)
	w.until("claims are taken", func() bool { // none is while the index is built anew
		resp, _ := w.send(http.MethodPost, "/events", structured(w.t, e), "Content-Type", "application/cloudevents+json")
		return resp.StatusCode != http.StatusServiceUnavailable
	})
	f := fact("shop", e.SubjectID, events.Plan, e.Content)
	f.ID, f.Chain = "fact/"+e.SubjectID, e.Chain
	w.state(f)
	return e.Chain, e
}

func TestChains(t *testing.T) {
	w := newWorld(t)
	chain, e := lap(w, 1)
	lap(w, 2)
	ask := func(query string) string {
		for deadline := time.Now().Add(patience); ; {
			resp, answer := w.send(http.MethodGet, "/events?"+query+"chain="+url.QueryEscape(chain), "")
			if resp.StatusCode == http.StatusOK || time.Now().After(deadline) {
				var p page
				w.get("/events?"+query+"chain="+url.QueryEscape(chain), &p)
				return p.ids()
			}
			if resp.StatusCode != http.StatusServiceUnavailable {
				t.Fatalf("%d %s", resp.StatusCode, answer)
			}
			<-time.After(5 * time.Millisecond)
		}
	}
	began := time.Now()
	w.until("the chain is indexed", func() bool { return ask("") == "claim:t1 fact:t1" })
	if took := time.Since(began); took > time.Second {
		t.Errorf("visible after %v", took)
	}
	for query, want := range map[string]string{"project=shop&": "claim:t1 fact:t1", "project=bank&": "", "limit=1&": "claim:t1", "after=1&": "fact:t1", "type=ticket.closed&": ""} {
		if got := ask(query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	show := func(id string) (int, string) {
		resp, answer := w.send(http.MethodGet, "/events/"+url.PathEscape(id), "")
		return resp.StatusCode, answer
	}
	for _, id := range []string{e.ID, "fact/t1"} {
		if status, answer := show(id); status != http.StatusOK || !strings.Contains(answer, `"id":"`+id+`"`) {
			t.Errorf("%s: %d %s", id, status, answer)
		}
	}
	if status, _ := show("nothing"); status != http.StatusNotFound {
		t.Errorf("nothing: %d", status)
	}

	// The store is wiped: it is noticed without any event, and nothing wrong is answered meanwhile.
	if err := w.folds.Client().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	if got := ask(""); got != "claim:t1 fact:t1" {
		t.Errorf("after the wipe: %s", got)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("rebuilt after %v", took)
	}
	// Wiped while events come.
	for i := range 20 {
		if i%5 == 2 {
			if err := w.folds.Client().FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
		lap(w, 100+i)
	}
	chain = "turn 119: 100%/ü"
	w.until("the last chain is indexed", func() bool { return ask("") == "claim:t119 fact:t119" })
	if chain = "turn 1: 100%/ü"; ask("") != "claim:t1 fact:t1" {
		t.Errorf("the first chain: %s", ask(""))
	}

	// Another gateway beside this one, then a restart.
	first := w.stop
	w.start()
	lap(w, 200)
	chain = "turn 200: 100%/ü"
	w.until("two gateways index", func() bool { return ask("") == "claim:t200 fact:t200" })
	first()
	w.stop()
	w.start()
	if got := ask(""); got != "claim:t200 fact:t200" {
		t.Errorf("after the restart: %s", got)
	}
}

// Who is told of an event finds it by its id at once, however far the index is behind.
func TestWhatWasJustSaidIsShown(t *testing.T) {
	w := newWorld(t)
	w.until("the index is there", func() bool {
		resp, _ := w.send(http.MethodGet, "/events/nothing", "")
		return resp.StatusCode == http.StatusNotFound
	})
	for n := range 100 {
		e := ticket(fmt.Sprint("just", n), "x")
		w.claim(e)
		if resp, answer := w.send(http.MethodGet, "/events/"+e.ID, ""); resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s", e.ID, resp.StatusCode, answer)
		}
	}
}

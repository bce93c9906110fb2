package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lemnis/lemnis/pkg/events"
)

// rebuilds is the answer of POST /api/v1/rebuilds.
type rebuilds struct {
	Requests []struct {
		Phase    string `json:"phase"`
		ID       string `json:"id"`
		Sequence uint64 `json:"sequence"`
	} `json:"requests"`
	Models []struct {
		Model     string `json:"model"`
		Compared  int    `json:"compared"`
		Differing int    `json:"differing"`
	} `json:"models"`
}

func (w *world) rebuild(name string) (r rebuilds) {
	w.t.Helper()
	resp, answer := w.send(http.MethodPost, "/api/v1/rebuilds", `{"service":"`+name+`"}`, "Content-Type", "application/json")
	if err := json.Unmarshal([]byte(answer), &r); err != nil || resp.StatusCode != http.StatusOK {
		w.t.Fatalf("%d: %s", resp.StatusCode, answer)
	}
	return r
}

// The gateway's read models are built again beside those in use: what was wrong in the store is found and mended, and claims
// are taken meanwhile.
func TestRebuildOfTheReadModels(t *testing.T) {
	w := newWorld(t)
	w.planner()
	var first receipt
	for i := range 30 {
		r := w.claim(ticket(fmt.Sprint("t", i), "x"))
		if i == 0 {
			first = r
		}
	}
	client := w.folds.Client()
	find := func(pattern string) (keys []string) {
		keys, err := client.Keys(t.Context(), pattern).Result()
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	var shows struct{ Kind string }
	w.until("the index knows the first claim", func() bool {
		resp, answer := w.send(http.MethodGet, "/events/"+first.ID, "")
		return resp.StatusCode == 200 && json.Unmarshal([]byte(answer), &shows) == nil
	})
	w.until("the index has met all", func() bool {
		var p page
		w.get("/events?project=shop&limit=1000", &p)
		return len(p.Events) == 60 && w.gauge("lemnis_gateway_index_sequence") >= 60
	})
	lost, made := 0, 0
	for _, key := range find("*ids:*") {
		fields, err := client.HKeys(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range fields {
			if field[0] == 'i' && lost == 0 { // one event can not be found any more
				lost += int(client.HDel(t.Context(), key, field).Val())
			}
		}
		made += int(client.HSet(t.Context(), key, "inobody", "1").Val())
	}
	for _, key := range find("*chains:*")[:1] {
		made += int(client.ZAdd(t.Context(), key, redis.Z{Member: "hnobody:0000000000000001"}).Val())
	}
	if lost != 1 || made < 2 {
		t.Fatalf("%d entries lost, %d made up", lost, made)
	}
	got := w.rebuild("gateway")
	if len(got.Models) != 2 || got.Models[0].Model != "index" || got.Models[0].Differing != lost+made || got.Models[1].Differing != 0 {
		t.Errorf("%+v, want %d differing", got, lost+made)
	}
	if left := find("*new-*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, key := range find("*ids:*") {
		if client.TTL(t.Context(), key).Val() > 0 {
			t.Errorf("%s will go away", key)
		}
	}
	again := w.claim(ticket("t-later", "x"))
	w.until("a claim of later is found", func() bool {
		resp, _ := w.send(http.MethodGet, "/events/"+again.ID, "")
		return resp.StatusCode == 200
	})
	if got = w.rebuild("gateway"); got.Models[0].Differing != 0 || got.Models[1].Differing != 0 || got.Models[1].Compared == 0 {
		t.Errorf("the second time: %+v", got)
	}
	for i := range 30 {
		if resp, _ := w.send(http.MethodGet, "/events/"+first.ID, ""); resp.StatusCode != 200 {
			t.Fatalf("event %d can not be found", i)
		}
	}
}

// gauge reads a number of /metrics.
func (w *world) gauge(name string) (value int) {
	w.t.Helper()
	_, text := w.send(http.MethodGet, "/metrics", "")
	for line := range strings.Lines(text) {
		if n, err := fmt.Sscanf(line, name+" %d", &value); n == 1 && err == nil {
			return value
		}
	}
	w.t.Fatalf("no metric %s", name)
	return 0
}

// A phase's owner is asked by a claim, and reports.
func TestRebuildOfAPhase(t *testing.T) {
	w := newWorld(t)
	w.planner()
	w.claim(ticket("t", "x"))
	asked := w.rebuild("planner")
	if len(asked.Requests) != 1 || asked.Requests[0].Phase != "plan" {
		t.Fatalf("%+v", asked)
	}
	e, _, _ := w.stored(asked.Requests[0].Sequence)
	if c, ok := e.Content.(events.RebuildRequested); !ok || c.By != "local" || e.Principal != "local" {
		t.Errorf("the request is %+v", e)
	}
	w.until("the rebuild is reported", func() bool {
		resp, answer := w.send(http.MethodGet, fmt.Sprintf("/api/v1/rebuilds/%s?after=%d", asked.Requests[0].ID, asked.Requests[0].Sequence), "")
		var state struct {
			Phases map[string]events.RebuildReported
		}
		return resp.StatusCode == 200 && json.Unmarshal([]byte(answer), &state) == nil && state.Phases["plan"].Finished &&
			state.Phases["plan"].Failed == "" && state.Phases["plan"].Differing == 0
	})
	if got := len(w.rebuild("builder").Requests); got != 2 {
		t.Errorf("the builder has %d phases", got)
	}
	for _, name := range []string{"nothing", ""} {
		if resp, answer := w.send(http.MethodPost, "/api/v1/rebuilds", `{"service":"`+name+`"}`, "Content-Type", "application/json"); resp.StatusCode != 400 {
			t.Errorf("%q: %d %s", name, resp.StatusCode, answer)
		}
	}
}

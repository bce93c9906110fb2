package web

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// sample answers the three addresses that the page reads, in the gateway's shapes, beside the page itself.
type sample struct {
	events  []map[string]any
	empty   bool
	streams atomic.Int64 // opened so far
	down    atomic.Bool  // the stream refuses
	more    chan map[string]any

	// hold, where set, is closed when the page may count as loaded: an image in it waits for that.
	hold chan struct{}
	// asked is told of each request after it was answered.
	asked func(path string)
}

// turn is one lap as a person would tell it; seconds are since the first.
var turn = []struct {
	seconds              float64
	kind, phase, typ     string
	chain, key, text, by string
	marks                map[string]any
}{
	{0, "claim", "learn", "dev.cdeventsx.lemnis-feedback.received.0.1.0", "c1", "fb-1", "The search takes for ever on my phone", "ann", nil},
	{0.1, "fact", "learn", "dev.cdeventsx.lemnis-feedback.received.0.1.0", "c1", "fb-1", "The search takes for ever on my phone", "feedback", nil},
	{0.9, "fact", "learn", "dev.cdeventsx.lemnis-insight.found.0.1.0", "c1", "search-slow", "Search is slow for 14 users", "feedback", map[string]any{"severity": "high"}},
	{1.0, "fact", "plan", "dev.cdevents.ticket.created.0.2.0", "c1", "SHOP-12", "Make the search answer within 300 ms", "planner", nil},
	{1.2, "fact", "plan", "dev.cdeventsx.lemnis-value.estimated.0.1.0", "c1", "SHOP-12", "Make the search answer within 300 ms", "planner", nil},
	{1.3, "fact", "plan", "dev.cdeventsx.lemnis-backlog.ranked.0.1.0", "c1", "shop", "SHOP-12 first: 14 users, high value, small", "planner", nil},
	{1.6, "fact", "plan", "dev.cdeventsx.lemnis-release.planned.0.1.0", "c1", "2026.11", "Release 2026.11 with 3 items of 12", "planner", nil},
	{4.0, "claim", "develop", "dev.cdevents.change.created.0.3.0", "c1", "api!41", "Index the titles instead of scanning", "ann", nil},
	{4.1, "fact", "develop", "dev.cdevents.change.created.0.3.0", "c1", "api!41", "Index the titles instead of scanning", "builder", nil},
	{6.4, "claim", "develop", "dev.cdevents.change.reviewed.0.3.0", "c1", "api!41", "Index the titles instead of scanning", "bo", nil},
	{6.5, "fact", "develop", "dev.cdevents.change.reviewed.0.3.0", "c1", "api!41", "Index the titles instead of scanning", "builder", map[string]any{"outcome": "approved"}},
	{6.6, "fact", "integrate", "dev.cdeventsx.lemnis-queue.entered.0.1.0", "c1", "api!41", "Index the titles instead of scanning", "builder", nil},
	{6.9, "fact", "integrate", "dev.cdevents.build.started.0.3.0", "c1", "api!41", "go build ./cmd/api", "builder", nil},
	{9.2, "fact", "integrate", "dev.cdevents.testsuiterun.finished.0.3.0", "c1", "api!41", "84 tests in 11 packages", "builder", map[string]any{"outcome": "success"}},
	{9.4, "fact", "integrate", "dev.cdevents.change.merged.0.3.0", "c1", "api!41", "Index the titles instead of scanning", "builder", nil},
	{9.9, "fact", "integrate", "dev.cdevents.artifact.published.0.3.0", "c1", "api", "pkg:oci/api@sha256:5d41402abc4b2a76b9719d911017c592", "builder", nil},
	{10.2, "fact", "deploy", "dev.cdeventsx.lemnis-deployment.started.0.1.0", "c1", "api-7", "api 5d41402 to dev", "deployer", map[string]any{"environment": map[string]any{"id": "dev"}}},
	{11.0, "fact", "deploy", "dev.cdeventsx.lemnis-gate.evaluated.0.1.0", "c1", "api-7", "Smoke, latency, licences, headers", "deployer", map[string]any{"outcome": "pass", "environment": map[string]any{"id": "test"}}},
	{12.1, "fact", "deploy", "dev.cdeventsx.lemnis-canary.stepped.0.1.0", "c1", "api-7", "25 % of users", "deployer", map[string]any{"environment": map[string]any{"id": "prod"}}},
	{15.0, "fact", "deploy", "dev.cdeventsx.lemnis-canary.judged.0.1.0", "c1", "api-7", "Errors 6.1 % against 0.2 %, p below 0.001", "deployer", map[string]any{"verdict": "rollback", "environment": map[string]any{"id": "prod"}}},
	{15.2, "fact", "operate", "dev.cdevents.incident.detected.0.3.0", "c1", "INC-3", "Search answers 500 for a quarter of users", "monitor", map[string]any{"severity": "critical", "service": map[string]any{"id": "api"}}},
	{15.4, "fact", "operate", "dev.cdeventsx.lemnis-alert.sent.0.1.0", "c1", "INC-3", "Told ann, who is on duty", "monitor", nil},
	{15.9, "fact", "deploy", "dev.cdevents.service.rolledback.0.3.0", "c1", "api-7", "api back to 9b1e0c4", "deployer", map[string]any{"environment": map[string]any{"id": "prod"}}},
	{18.0, "fact", "operate", "dev.cdevents.incident.resolved.0.3.0", "c1", "INC-3", "Search answers 500 for a quarter of users", "monitor", nil},
	{18.4, "fact", "learn", "dev.cdeventsx.lemnis-lesson.learned.0.1.0", "c1", "INC-3", "Titles may be empty: test the index with them", "feedback", nil},
	{18.6, "fact", "plan", "dev.cdeventsx.lemnis-backlog.ranked.0.1.0", "c1", "shop", "SHOP-14 first: it repeats an incident", "planner", nil},
	{19.0, "claim", "deploy", "dev.cdeventsx.lemnis-approval.given.0.1.0", "c2", "api-8", "api 77ac901 to prod", "<img src=x onerror=alert(1)>", nil},
	{19.1, "fact", "deploy", "dev.cdeventsx.lemnis-claim.refused.0.1.0", "c2", "api-8", "The principal may not approve in prod", "deployer", map[string]any{"outcome": "refused"}},
}

func newSample() *sample {
	s := &sample{more: make(chan map[string]any, 8)}
	start := time.Now().Add(-24 * time.Second)
	for i, e := range turn {
		content := map[string]any{"title": e.text}
		for k, v := range e.marks {
			content[k] = v
		}
		at := start.Add(time.Duration(e.seconds * float64(time.Second))).UTC().Format(time.RFC3339Nano)
		ev := map[string]any{
			"specversion": "1.0", "id": fmt.Sprintf("e%02d", i+1), "source": "/lemnis/" + e.by, "type": e.typ, "time": at, "datacontenttype": "application/json",
			"kind": e.kind, "sequence": 100 + i, "project": "shop", "phase": e.phase, "chainid": e.chain, "aggregate": strings.Split(e.typ, ".")[2], "key": e.key, "principal": e.by,
			"data": map[string]any{
				"context":    map[string]any{"version": "0.5.0", "id": fmt.Sprintf("e%02d", i+1), "chainId": e.chain, "type": e.typ, "timestamp": at},
				"subject":    map[string]any{"id": e.key, "content": content},
				"customData": map[string]any{},
			},
		}
		if i > 0 {
			ev["causationid"] = fmt.Sprintf("e%02d", i)
		}
		switch i { // branches, so that not all of the chain leads to each event
		case 5, 6:
			ev["causationid"] = "e05"
		case 22:
			ev["causationid"] = "e20"
		case 26:
			delete(ev, "causationid")
		}
		s.events = append(s.events, ev)
	}
	return s
}

func (s *sample) overview() map[string]any {
	if s.empty {
		return map[string]any{"projects": []string{}, "project": "", "phases": []any{}}
	}
	since := func(seconds int) string {
		return time.Now().Add(-time.Duration(seconds) * time.Second).UTC().Format(time.RFC3339)
	}
	item := func(kind, key, title, state string, seconds int) map[string]any {
		return map[string]any{"kind": kind, "key": key, "title": title, "state": state, "since": since(seconds), "chain": "c1"}
	}
	moving := map[string][]map[string]any{
		"plan": {
			item("item", "SHOP-14", "Test the index with empty titles", "ranked 1", 5), item("item", "SHOP-9", "Gift wrapping, as the stakeholder from retail asked for", "ranked 2", 340),
			item("item", "SHOP-11", "Pay later", "ranked 3", 4000), item("item", "SHOP-3", "Dark colours", "ranked 4", 90000), item("release", "2026.11", "Release 2026.11", "planned", 22),
		},
		"develop":   {item("change", "api!42", "Let the basket survive a restart", "in review", 75)},
		"integrate": {item("queue", "api!43", "Round prices once", "testing", 8), item("queue", "api!44", "Say why a card was refused", "queued", 3)},
		"deploy":    {item("rollout", "api-8", "api 77ac901 to prod", "waiting for approval", 31)},
		"operate":   {},
		"learn":     {item("insight", "basket", "The basket forgets", "8 users", 130)},
	}
	var phases []map[string]any
	for _, phase := range []string{"plan", "develop", "integrate", "deploy", "operate", "learn"} {
		p := map[string]any{"phase": phase, "facts": 0, "claims": 0, "moving": moving[phase]}
		for _, e := range s.events {
			if e["phase"] == phase {
				p[e["kind"].(string)+"s"] = p[e["kind"].(string)+"s"].(int) + 1
				p["last"] = e["time"]
			}
		}
		phases = append(phases, p)
	}
	return map[string]any{"projects": []string{"shop", "website"}, "project": "shop", "phases": phases}
}

func (s *sample) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	if s.asked != nil {
		defer s.asked(r.URL.Path)
	}
	q := r.URL.Query()
	switch r.URL.Path {
	case "/api/v1/overview":
		answer(s.overview())
	case "/events":
		after, _ := strconv.Atoi(q.Get("after"))
		found := []map[string]any{}
		for _, e := range s.events {
			if (q.Get("chain") == "" || q.Get("chain") == e["chainid"]) && (q.Get("phase") == "" || q.Get("phase") == e["phase"]) && e["sequence"].(int) > after {
				found = append(found, e)
			}
		}
		answer(map[string]any{"events": found, "next": nil})
	case "/events/stream":
		s.stream(w, r)
	case "/hold.svg":
		select {
		case <-s.hold:
		case <-r.Context().Done():
		}
	case "/":
		rec := httptest.NewRecorder()
		Handler().ServeHTTP(rec, r)
		maps.Copy(w.Header(), rec.Header())
		body := rec.Body.String()
		if s.hold != nil {
			body = strings.Replace(body, "</body>", `<img src="/hold.svg" alt=""></body>`, 1)
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write([]byte(body))
	default:
		Handler().ServeHTTP(w, r)
	}
}

func (s *sample) stream(w http.ResponseWriter, r *http.Request) {
	s.streams.Add(1)
	if s.down.Load() {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, ": hello\n\n")
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case e := <-s.more:
			body, _ := json.Marshal(e)
			fmt.Fprintf(w, "id: %v\nevent: %v\ndata: %s\n\n", e["sequence"], e["kind"], body)
			w.(http.Flusher).Flush()
		}
	}
}

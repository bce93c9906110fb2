package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway"
)

func body(t *testing.T, e events.Event) string {
	t.Helper()
	b, err := e.AppendBody(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func structured(t testing.TB, e events.Event) string {
	t.Helper()
	b, err := events.EncodeStructured(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func sourced(e events.Event) events.Event { e.Source = "/test"; return e }

func TestReceiveRefuses(t *testing.T) {
	w := newWorld(t)
	good := ticket("t1", "Search is slow")
	with := func(change func(*events.Event)) string {
		e := good
		change(&e)
		return structured(t, e)
	}
	binary := func(more ...string) []string {
		return append([]string{
			"ce-specversion", "1.0", "ce-type", string(good.Type), "ce-id", good.ID, "ce-source", "/test", "ce-project", "shop",
			"Content-Type", "application/json",
		}, more...)
	}
	asStructured := []string{"Content-Type", "application/cloudevents+json"}
	tests := []struct {
		name    string
		body    string
		headers []string
		status  int
		reason  string
	}{
		{"no CloudEvent", `{"hello":"world"}`, []string{"Content-Type", "application/json"}, 400, "no CloudEvent"},
		{"a form", `hello`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 400, "no CloudEvent"},
		{"nothing", ``, nil, 400, "no CloudEvent"},
		{"broken JSON", `{"specversion":"1.0"`, asStructured, 400, "no CloudEvent"},
		{"no CDEvent", `{"specversion":"1.0","id":"1","source":"/s","type":"` + string(good.Type) + `","project":"shop","data":{"a":1}}`, asStructured, 400, "not a CDEvent"},
		{"unknown type", strings.ReplaceAll(structured(t, good), "ticket.created", "ticket.eaten"), asStructured, 400, "unknown event type"},
		{"no type at all", strings.ReplaceAll(structured(t, good), string(good.Type), "com.example.hello"), asStructured, 400, "unknown event type"},
		{"schema", strings.Replace(structured(t, good), `"summary":"Search is slow",`, ``, 1), asStructured, 400, "summary"},
		{"ids differ", body(t, good), append(binary()[:4:4], "ce-id", "other", "ce-source", "/test", "ce-project", "shop"), 400, "id"},
		{"no project", with(func(e *events.Event) { e.Project = "" }), asStructured, 400, "project"},
		{"bad project", with(func(e *events.Event) { e.Project = "Shop!" }), asStructured, 403, "project name"},
		{"project of several tokens", with(func(e *events.Event) { e.Project = "a.b" }), asStructured, 403, "project name"},
		{"not claimable", structured(t, sourced(events.New("shop", "k", events.ClaimRefused{Claim: "x", Reason: "y"}))), asStructured, 403, "can not be claimed"},
		{"foreign phase", with(func(e *events.Event) { e.Phase = events.Deploy }), asStructured, 400, "belongs to the phase plan"},
		{"too large", with(func(e *events.Event) {
			e.Content = events.TicketCreated{Ticket: events.Ticket{Summary: strings.Repeat("x", 1<<20), Creator: "ann", URI: "/u"}}
		}), asStructured, 413, "1 MiB"},
		{"far too large", strings.Repeat("x", 3<<20), asStructured, 413, "1 MiB"},
		{"long key", with(func(e *events.Event) { e.SubjectID = strings.Repeat("k", 5000) }), asStructured, 400, "subject.id"},
		{"long key when escaped", with(func(e *events.Event) { e.SubjectID = strings.Repeat(".", 500) }), asStructured, 400, "escaped"},
		{"control characters", with(func(e *events.Event) { e.ID = "a\r\nNats-Rollup: all" }), asStructured, 400, "control characters"},
		{"member twice", strings.Replace(structured(t, good), `"subject":{"id":"t1"`, `"subject":{"id":"t2","id":"t1"`, 1), asStructured, 400, "twice"},
		{"header twice", body(t, good), binary("ce-project", "other"), 400, "2 times"},
		{"XML", `<event/>`, []string{"Content-Type", "application/cloudevents+xml"}, 415, "not supported"},
		{"XML in binary mode", `<event/>`, append(binary()[:10:10], "Content-Type", "application/xml"), 415, "not application/json"},
		{"compressed", body(t, good), binary("Content-Encoding", "gzip"), 415, "gzip"},
		{"feedback that says it is sealed", structured(t, sourced(events.New("shop", "f", events.FeedbackReceived{User: "ann", Key: "k", Text: []byte("plain")}))), asStructured, 400, "key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, answer := w.send(http.MethodPost, "/events", tt.body, tt.headers...)
			var p struct {
				Status int    `json:"status"`
				Detail string `json:"detail"`
			}
			if err := json.Unmarshal([]byte(answer), &p); err != nil {
				t.Fatalf("%d: %s", resp.StatusCode, answer)
			}
			if resp.StatusCode != tt.status || p.Status != tt.status || !strings.Contains(p.Detail, tt.reason) {
				t.Errorf("%d %s, want %d with %q", resp.StatusCode, answer, tt.status, tt.reason)
			}
			if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("content type %s", got)
			}
		})
	}
	var p page
	if w.get("/events", &p); len(p.Events) != 0 {
		t.Errorf("refused events are on the stream: %s", p.ids())
	}
	if resp, _ := w.send(http.MethodPut, "/events", ""); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("PUT answered %d", resp.StatusCode)
	}
}

// What an outsider may not say is dropped, what a claim has is given, and the body stays as it was.
func TestReceiveStamps(t *testing.T) {
	w := newWorld(t)
	e := ticket("team/1.2", "Search <b>is</b> slow")
	e.Chain = "chain-7"
	raw := strings.Replace(body(t, e), `"subject":`, ` "subject" : `, 1)
	resp, answer := w.send(http.MethodPost, "/events", raw,
		"ce-specversion", "1.0", "ce-type", string(e.Type), "ce-id", e.ID, "ce-source", "/test", "ce-project", "shop",
		"ce-causationid", "forged", "ce-principal", "root", "ce-aggregate", "item", "ce-causesequence", "7", "ce-configrevision", "3",
		"ce-attempt", "9", "ce-deadline", "2030-01-01T00:00:00Z", "ce-key", "other", "ce-chainid", "stolen",
		"Content-Type", "application/json; charset=utf-8", "Nats-Rollup", "all")
	var got receipt
	if err := json.Unmarshal([]byte(answer), &got); err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("%d: %s", resp.StatusCode, answer)
	}
	if got.ID != e.ID || got.Sequence == 0 || got.Project != "shop" || got.Phase != "plan" || got.Duplicate {
		t.Errorf("receipt %+v", got)
	}
	stored, data, subject := w.stored(got.Sequence)
	if string(data) != raw {
		t.Errorf("the body is now %s", data)
	}
	if want := fmt.Sprintf("claims.shop.plan.ticket.created.%d", events.Partition("team/1.2")); subject != want {
		t.Errorf("on %s, want %s", subject, want)
	}
	if stored.Cause != "" || stored.Principal != "local" || stored.Aggregate != "" || stored.CauseSequence != 0 || stored.ConfigRevision != 0 ||
		stored.Attempt != 0 || !stored.Deadline.IsZero() || stored.Key != "team/1.2" || stored.Chain != "chain-7" || stored.TraceParent != events.TraceContext("shop", "chain-7", e.ID) {
		t.Errorf("stored %+v", stored)
	}
	// Without a chain it begins one; its trace is the chain's, and not what the caller's was.
	e = ticket("t2", "x")
	resp, answer = w.send(http.MethodPost, "/events", structured(t, e), "Content-Type", "application/cloudevents+json",
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if err := json.Unmarshal([]byte(answer), &got); err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("%d: %s", resp.StatusCode, answer)
	}
	if stored, _, _ = w.stored(got.Sequence); stored.Chain != e.ID || stored.TraceParent != events.TraceContext("shop", e.ID, e.ID) {
		t.Errorf("chain %q, trace %q", stored.Chain, stored.TraceParent)
	}
	// A key near the limit passes the bus, which reads a subject as one line.
	e = ticket(strings.Repeat("ü", 170), "x")
	w.claim(e)
}

func TestDuplicates(t *testing.T) {
	w := newWorld(t)
	e := ticket("t1", "once")
	firstTime := w.claim(e)
	for range 3 {
		again := w.claim(e)
		if !again.Duplicate || again.Sequence != firstTime.Sequence || again.ID != firstTime.ID {
			t.Errorf("again %+v, first %+v", again, firstTime)
		}
	}
	e.Source = "/another"
	if other := w.claim(e); other.Duplicate || other.Sequence == firstTime.Sequence {
		t.Errorf("another source's event with the same id: %+v", other)
	}
}

func TestBatch(t *testing.T) {
	w := newWorld(t)
	send := func(list ...string) (int, []receipt) {
		resp, answer := w.send(http.MethodPost, "/events", "["+strings.Join(list, ",")+"]", "Content-Type", "application/cloudevents-batch+json")
		var got []receipt
		if err := json.Unmarshal([]byte(answer), &got); err != nil {
			t.Fatalf("%d: %s", resp.StatusCode, answer)
		}
		return resp.StatusCode, got
	}
	bad := ticket("b", "x")
	bad.Project = "No"
	status, got := send(structured(t, ticket("a", "x")), structured(t, bad), `{"a":1}`, structured(t, ticket("c", "x")))
	if status != http.StatusMultiStatus || len(got) != 4 {
		t.Fatalf("%d %+v", status, got)
	}
	for i, want := range []int{202, 403, 400, 202} {
		if got[i].Status != want || (want == 202) != (got[i].Sequence > 0) || (want == 202) == (got[i].Detail != "") {
			t.Errorf("event %d: %+v, want %d", i, got[i], want)
		}
	}
	if got[3].Sequence <= got[0].Sequence {
		t.Error("not in order")
	}
	if status, got = send(structured(t, ticket("d", "x"))); status != http.StatusAccepted || len(got) != 1 {
		t.Errorf("%d %+v", status, got)
	}
	if status, got = send(); status != http.StatusAccepted || len(got) != 0 {
		t.Errorf("an empty batch: %d %+v", status, got)
	}
	if resp, answer := w.send(http.MethodPost, "/events", `{}`, "Content-Type", "application/cloudevents-batch+json"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("no list: %d %s", resp.StatusCode, answer)
	}
}

// silent is a bus that is connected and acknowledges nothing, as where a cluster has no leader.
type silent struct {
	jetstream.JetStream
	asked atomic.Int64
}

func (s *silent) PublishMsg(context.Context, *nats.Msg, ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	s.asked.Add(1)
	return nil, context.DeadlineExceeded
}

// A batch does not wait for each of its events when the bus does not answer: a thousand would keep the sender for more than an hour.
func TestBatchWhileTheBusIsSilent(t *testing.T) {
	w := newWorld(t)
	w.stop()
	bus := &silent{JetStream: w.host.JS}
	w.start(func(o *gateway.Options) { o.Host.JS = bus })
	bad := ticket("bad", "x")
	bad.Project = "No"
	list := []string{structured(t, bad), structured(t, ticket("a", "x")), structured(t, ticket("b", "x")), structured(t, bad)}
	resp, answer := w.send(http.MethodPost, "/events", "["+strings.Join(list, ",")+"]", "Content-Type", "application/cloudevents-batch+json")
	var got []receipt
	if err := json.Unmarshal([]byte(answer), &got); err != nil || len(got) != len(list) {
		t.Fatalf("%d: %s", resp.StatusCode, answer)
	}
	for i, want := range []int{403, 503, 503, 503} {
		if got[i].Status != want || got[i].Detail == "" {
			t.Errorf("event %d: %+v, want %d", i, got[i], want)
		}
	}
	if n := bus.asked.Load(); n != 1 || resp.StatusCode != http.StatusMultiStatus || resp.Header.Get("Retry-After") == "" {
		t.Errorf("asked %d times; %d %v", n, resp.StatusCode, resp.Header)
	}
}

func TestPreferWait(t *testing.T) {
	w := newWorld(t)
	w.planner()
	send := func(e events.Event, wait string) (int, receipt, events.Event) {
		resp, answer := w.send(http.MethodPost, "/events", structured(t, e), "Content-Type", "application/cloudevents+json", "Prefer", "respond-async, wait="+wait)
		if resp.Header.Get("Preference-Applied") != "wait="+wait {
			t.Errorf("applied %q", resp.Header.Get("Preference-Applied"))
		}
		var got struct {
			Claim  receipt         `json:"claim"`
			Answer json.RawMessage `json:"answer"`
		}
		if err := json.Unmarshal([]byte(answer), &got); err != nil {
			t.Fatalf("%d: %s", resp.StatusCode, answer)
		}
		var a events.Event
		if got.Answer != nil {
			var err error
			if a, _, err = events.DecodeStructured(got.Answer); err != nil {
				t.Fatal(err)
			}
		}
		return resp.StatusCode, got.Claim, a
	}
	e := ticket("t1", "yes")
	status, claim, answer := send(e, "10")
	if status != http.StatusOK || answer.Cause != e.ID || answer.Kind != events.Stated || answer.CauseSequence != claim.Sequence {
		t.Errorf("%d %+v", status, answer)
	}
	status, claim, again := send(e, "10")
	if status != http.StatusOK || !claim.Duplicate || again.ID != answer.ID {
		t.Errorf("again: %d %+v %+v", status, claim, again)
	}
	status, _, answer = send(ticket("t2", "no"), "10")
	if refused, ok := answer.Content.(events.ClaimRefused); status != http.StatusConflict || !ok || refused.Reason != "because you said so" {
		t.Errorf("%d %+v", status, answer)
	}
	// Nobody runs the develop phase: no answer comes.
	change := events.New("shop", "c1", events.ChangeAbandoned{})
	change.Source = "/test"
	if status, _, answer = send(change, "1"); status != http.StatusAccepted || answer.ID != "" {
		t.Errorf("%d %+v", status, answer)
	}
}

func TestPhaseOfTests(t *testing.T) {
	w := newWorld(t)
	w.state(fact("bank", "bank", events.Plan, events.ProjectConfigured{Revision: 1, Project: events.Project{Name: "bank", Environments: []events.Environment{{Name: "stage", Target: "process"}}}}))
	run := func(project, environment string) events.Event {
		e := events.New(project, "run-"+environment, events.TestCaseRunFinished{Environment: events.Reference{ID: environment}, Outcome: "success"})
		e.Source = "/test"
		return e
	}
	output := func(of string) events.Event {
		e := events.New("bank", "out-"+of, events.TestOutputPublished{OutputType: "log", Format: "text/plain", URI: "https://example.org/log", TestCaseRun: &events.Reference{ID: of}})
		e.Source = "/test"
		return e
	}
	w.until("the configuration is known", func() bool {
		e := run("bank", "stage")
		return w.claim(e).Phase == "deploy"
	})
	overridden := run("bank", "laptop")
	overridden.Phase = events.Deploy
	for _, tt := range []struct {
		e    events.Event
		want string
	}{
		{run("bank", "prod"), "integrate"}, {run("shop", "prod"), "deploy"}, {run("shop", "stage"), "integrate"}, {overridden, "deploy"},
		{output("run-stage"), "deploy"}, {output("run-prod"), "integrate"}, {output("run-unheard-of"), "integrate"},
	} {
		if got := w.claim(tt.e); got.Phase != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.e.Project, tt.e.SubjectID, got.Phase, tt.want)
		}
	}
}

func TestBusAway(t *testing.T) {
	w := newWorld(t)
	w.server.Stop()
	w.until("the loss is noticed", func() bool { return !w.conn.IsConnected() })
	resp, answer := w.send(http.MethodPost, "/events", structured(t, ticket("t1", "x")), "Content-Type", "application/cloudevents+json")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
}

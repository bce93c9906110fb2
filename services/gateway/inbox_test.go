package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// letters is the answer of GET /api/v1/deadletters.
type letters struct {
	DeadLetters []struct {
		Sequence uint64 `json:"sequence"`
		Project  string `json:"project"`
		Where    string `json:"where"`
		Reason   string `json:"reason"`
		ID       string `json:"id"`
		Type     string `json:"type"`
		Subject  string `json:"subject"`
		Origin   uint64 `json:"origin"`
	} `json:"deadletters"`
	Next *string `json:"next"`
}

// submitter publishes as an outside client does.
func (w *world) submitter() jetstream.JetStream {
	w.t.Helper()
	nc, err := w.server.ConnectLocal()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		w.t.Fatal(err)
	}
	return js
}

func (w *world) submit(js jetstream.JetStream, subject, body string, headers ...string) {
	w.t.Helper()
	m := &nats.Msg{Subject: subject, Data: []byte(body), Header: nats.Header{}}
	for i := 0; i < len(headers); i += 2 {
		m.Header[headers[i]] = append(m.Header[headers[i]], headers[i+1])
	}
	if _, err := js.PublishMsg(w.t.Context(), m); err != nil {
		w.t.Fatal(err)
	}
}

func TestInbox(t *testing.T) {
	w := newWorld(t)
	js := w.submitter()
	const subject = "submit.local.shop"
	a, b := ticket("a", "x"), ticket("b", "x")
	binary := func(e events.Event, more ...string) []string {
		return append([]string{"ce-specversion", "1.0", "ce-type", string(e.Type), "ce-id", e.ID, "ce-source", "/test", "ce-project", "shop", "content-type", "application/json"}, more...)
	}
	w.submit(js, subject, structured(t, a)) // without any header: structured
	w.submit(js, subject, body(t, b), binary(b,
		"Nats-Msg-Id", "c/5:local5:/test1:x", "Ce-Principal", "root", "ce-principal", "root", "ce-causationid", "forged", "ce-aggregate", "item", "ce-causesequence", "1",
		"Lemnis-Reason", "none")...)
	w.submit(js, subject, structured(t, a), "Content-Type", "application/cloudevents+json") // the same again
	w.submit(js, subject, "hello")
	bad := ticket("c", "x")
	bad.Project = "No!"
	w.submit(js, subject, structured(t, bad), "Lemnis-Reason", "forged", "lemnis-sequence", "7")
	f := sourced(events.New("shop", "f", events.FeedbackReceived{User: "ann", Text: []byte("so slow"), Key: "k"}))
	w.submit(js, subject, structured(t, f))
	w.submit(js, subject, body(t, b), binary(b, "ce-project", "other")...)
	last := ticket("d", "x")
	w.submit(js, subject, structured(t, last))

	var p page
	w.until("the last one is a claim", func() bool { w.get("/events", &p); return len(p.Events) == 3 })
	if p.ids() != "claim:a claim:b claim:d" {
		t.Errorf("claims %s", p.ids())
	}
	stored, data, _ := w.stored(2)
	if stored.Principal != "local" || stored.Cause != "" || stored.Aggregate != "" || stored.CauseSequence != 0 || stored.ID != b.ID || string(data) != body(t, b) {
		t.Errorf("stored %+v", stored)
	}
	var l letters
	w.get("/api/v1/deadletters", &l)
	for i, want := range []struct{ project, reason string }{{"", "no CloudEvent"}, {"", "project name"}, {"shop", "key"}, {"", "2 times"}} {
		if i >= len(l.DeadLetters) {
			t.Fatalf("dead letters %+v", l)
		}
		got := l.DeadLetters[i]
		if got.Project != want.project || !strings.Contains(got.Reason, want.reason) || got.Where != "inbox-local" || got.Subject != subject || got.Origin == 0 {
			t.Errorf("dead letter %+v, want %+v", got, want)
		}
	}
	if len(l.DeadLetters) != 4 || l.Next != nil {
		t.Errorf("dead letters %+v", l)
	}
	resp, whole := w.send(http.MethodGet, fmt.Sprintf("/api/v1/deadletters/%d", l.DeadLetters[1].Sequence), "")
	if resp.StatusCode != http.StatusOK || !strings.Contains(whole, bad.ID) || strings.Contains(whole, "forged") {
		t.Errorf("%d %s", resp.StatusCode, whole)
	}
	if _, whole = w.send(http.MethodGet, fmt.Sprintf("/api/v1/deadletters/%d", l.DeadLetters[2].Sequence), ""); strings.Contains(whole, "c28gc2xvdw") {
		t.Errorf("what a user said is kept: %s", whole)
	}
	if w.get("/api/v1/deadletters?limit=1&after=1", &l); len(l.DeadLetters) != 1 || l.DeadLetters[0].Sequence != 2 || l.Next == nil {
		t.Errorf("a page: %+v", l)
	}
	if resp, _ := w.send(http.MethodGet, "/api/v1/deadletters/99", ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("no such letter: %d", resp.StatusCode)
	}
	w.until("the inbox is empty", func() bool {
		s, err := w.host.JS.Stream(t.Context(), "SUBMIT_local")
		return err == nil && s.CachedInfo().State.Msgs == 0
	})
}

// Headers that steer the bus are refused by the inbox's stream, or have no effect behind it.
func TestInboxForgedSteering(t *testing.T) {
	w := newWorld(t)
	js := w.submitter()
	w.claim(ticket("before", "x"))
	for i, h := range [][2]string{{"Nats-Rollup", "all"}, {"Nats-Schedule", "@at 2020-01-01T00:00:00Z"}, {"Nats-Schedule-Target", "lifecycle.shop.plan.a.b.c"}, {"Nats-TTL", "1s"}, {"Nats-Expected-Stream", "LIFECYCLE"}, {"Nats-Msg-Id", "f/x"}} {
		e := ticket(fmt.Sprintf("t%d", i), "x")
		m := &nats.Msg{Subject: "submit.local.x", Data: []byte(structured(t, e)), Header: nats.Header{h[0]: {h[1]}}}
		_, err := js.PublishMsg(t.Context(), m)
		t.Logf("%s: %v", h[0], err)
	}
	end := ticket("end", "x")
	w.submit(js, "submit.local.x", structured(t, end))
	var p page
	w.until("the last one is a claim", func() bool { w.get("/events", &p); return strings.HasSuffix(p.ids(), "claim:end") })
	for _, e := range p.Events {
		if e["kind"] != "claim" {
			t.Errorf("forged: %v", e)
		}
	}
	s, err := w.host.JS.Stream(t.Context(), natsd.Lifecycle)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatalf("the first claim is gone: %v", err)
	}
	for name := range m.Header {
		switch name {
		case nats.MsgIdHdr, "Nats-Sequence", "Nats-Subject", "Nats-Time-Stamp", "Nats-Stream": // the last four: the answer's
		default:
			if strings.HasPrefix(name, "Nats-") {
				t.Errorf("header %s", name)
			}
		}
	}
}

// The order is kept, and nothing is lost or doubled, when the gateway is replaced in the middle.
func TestInboxKeepsOrder(t *testing.T) {
	const many = 300
	w := newWorld(t)
	js := w.submitter()
	for i := range many {
		w.submit(js, "submit.local.x", structured(t, ticket(fmt.Sprint(i), "x")))
		if i == many/3 || i == many/2 {
			w.stop()
			w.start()
		}
	}
	count := func() uint64 {
		s, err := w.host.JS.Stream(t.Context(), natsd.Lifecycle)
		if err != nil {
			t.Fatal(err)
		}
		info, err := s.Info(t.Context(), jetstream.WithSubjectFilter("claims.>"))
		if err != nil {
			t.Fatal(err)
		}
		return info.State.Msgs
	}
	var p page
	w.until("all are claims", func() bool { return count() >= many })
	w.get("/events?limit=1000", &p)
	n := 0
	for _, e := range p.Events {
		if e["key"] != fmt.Sprint(n) {
			t.Fatalf("claim %d is %v", n, e["key"])
		}
		n++
	}
	if n != many {
		t.Errorf("%d claims", n)
	}
}

// A client of package events is told the fate of its claim on the stream.
func TestInboxFromClient(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := events.Connect(w.server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.Submit(ctx, events.New("shop", "t1", ticket("t1", "x").Content)); err != nil {
		t.Fatal(err)
	}
	var p page
	w.until("it is a claim", func() bool { w.get("/events", &p); return p.ids() == "claim:t1" })
}

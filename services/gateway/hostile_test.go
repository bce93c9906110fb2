package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/access"
)

const cloudJSON = "application/cloudevents+json"

// One test a trick of somebody who has a token for something, and wants more. What the bus refuses is tried in
// internal/natsd, what services refuse in their packages.

func TestHostileForeignPage(t *testing.T) {
	c := newClosed(t)
	body := said(t, ticket("t1", "x"))
	for name, headers := range map[string][]string{
		"another origin":     {"Origin", "https://evil.example"},
		"no origin":          {"Origin", "null"},
		"another site's tag": {"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"},
	} {
		resp, answer := c.as("admin", "POST", "/events", body, append(headers, "Content-Type", cloudJSON)...)
		if resp.StatusCode != http.StatusForbidden || resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %d %s", name, resp.StatusCode, answer)
		}
	}
	// A browser sends cookies whoever asks; none is taken for a token. A preflight grants nothing.
	resp, _ := c.send("GET", "/events?project=shop", "", "Cookie", "token="+c.text["admin"]+"; Authorization=Bearer "+c.text["admin"])
	if resp.StatusCode != http.StatusUnauthorized || len(resp.Cookies()) > 0 {
		t.Errorf("by a cookie: %d, sets %v", resp.StatusCode, resp.Cookies())
	}
	resp, _ = c.send("OPTIONS", "/events", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization")
	if resp.StatusCode < 400 || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a preflight: %d %v", resp.StatusCode, resp.Header)
	}
}

func TestHostileTokenInTheAddress(t *testing.T) {
	c := newClosed(t)
	for _, query := range []string{"token=", "access_token=", "Authorization=Bearer%20"} {
		if resp, _ := c.send("GET", "/events?project=shop&"+query+c.text["admin"], ""); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d", query, resp.StatusCode)
		}
	}
}

func TestHostileTwoCredentials(t *testing.T) {
	c := newClosed(t)
	resp, _ := c.send("GET", "/events", "", "Authorization", "Bearer "+c.text["stranger"], "Authorization", "Bearer "+c.text["admin"])
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("%d", resp.StatusCode)
	}
}

// A claim for another project hidden in a batch of allowed ones, and two projects in one event.
func TestHostileOtherProject(t *testing.T) {
	c := newClosed(t)
	other := ticket("t2", "x")
	other.Project = "other"
	batch := "[" + said(t, ticket("t1", "x")) + "," + said(t, other) + "]"
	resp, answer := c.as("speaks", "POST", "/events", batch, "Content-Type", "application/cloudevents-batch+json")
	var each []receipt
	if err := json.Unmarshal([]byte(answer), &each); err != nil || resp.StatusCode != http.StatusMultiStatus || each[0].Status != 202 || each[1].Status != 403 || !strings.Contains(each[1].Detail, "publish:plan@other") {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
	for _, body := range []string{
		strings.Replace(said(t, ticket("t3", "x")), `"project":"shop"`, `"project":"shop","project":"other"`, 1),
		strings.Replace(said(t, other), `"project":"other"`, `"project":"other","PROJECT":"shop"`, 1),
	} {
		if taken, text := c.as("speaks", "POST", "/events", body, "Content-Type", cloudJSON); taken.StatusCode == http.StatusAccepted {
			var r receipt
			if json.Unmarshal([]byte(text), &r) != nil || r.Project != "shop" {
				t.Errorf("%s: %s", body, text)
			}
		}
	}
	resp, answer = c.as("stranger", "GET", "/api/v1/overview", "")
	if resp.StatusCode != 200 || strings.Contains(answer, "shop") {
		t.Errorf("the overview: %d %s", resp.StatusCode, answer)
	}
}

// A project begins with its configuration, which an administrator gives it: whoever may speak of every project can not make one by
// another name, over HTTP or as a webhook's or an inbox's claim does. What was configured a moment ago is there.
func TestHostileUnknownProject(t *testing.T) {
	c := newClosed(t)
	text, _, err := c.tokens.Create(t.Context(), access.New{Name: "anywhere", Scopes: scopes(t, "publish@*")})
	if err != nil {
		t.Fatal(err)
	}
	c.text["anywhere"] = text
	post := func(who string, e events.Event) (int, string) {
		resp, answer := c.as(who, "POST", "/events", said(t, e), "Content-Type", cloudJSON)
		return resp.StatusCode, answer
	}
	end := c.end()
	e := ticket("t1", "x")
	e.Project = "shoop"
	for _, who := range []string{"anywhere", "admin"} {
		if status, answer := post(who, e); status != http.StatusForbidden || !strings.Contains(answer, "there is no project shoop") {
			t.Errorf("%s: %d %s", who, status, answer)
		}
	}
	if status, answer := post("speaks", e); status != http.StatusForbidden || strings.Contains(answer, "there is no") {
		t.Errorf("who may not speak of it: %d %s", status, answer)
	}
	if c.end() != end {
		t.Error("something reached the stream")
	}
	c.state(fact("shoop", "shoop", events.Plan, events.ProjectConfigured{Revision: 1, Project: events.DefaultProject("shoop")}))
	if status, answer := post("anywhere", e); status != http.StatusAccepted {
		t.Errorf("once it is configured: %d %s", status, answer)
	}
	another := events.New("new", "new", events.ProjectConfigured{Project: events.DefaultProject("new")})
	if status, answer := post("admin", another); status != http.StatusAccepted {
		t.Errorf("a new one's configuration: %d %s", status, answer)
	}
}

// An approval is a claim of the deploy phase: publishing for the phase, or naming another, does not give it.
func TestHostileForgedApproval(t *testing.T) {
	c := newClosed(t)
	yes := events.New("shop", "prod/api", events.ApprovalGiven{Environment: "prod", Service: "api", By: "ann"})
	for _, phase := range []events.Phase{"", events.Deploy, events.Integrate} {
		e := yes
		if phase != "" {
			e.Phase = phase
		}
		for _, who := range []string{"speaks", "builds", "reader", "stranger"} {
			resp, answer := c.as(who, "POST", "/events", said(t, e), "Content-Type", cloudJSON)
			if resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s in the phase %q: %d %s", who, phase, resp.StatusCode, answer)
			}
		}
	}
	// A fact, and what only a service or the gateway says, is nobody's to claim.
	for _, content := range []any{events.ClaimRefused{Claim: "x"}, events.TokenChanged{Token: "admin", Change: "x"}, events.DeadlineReached{}} {
		e := events.New("shop", "x", content)
		e.Phase = events.Plan
		if resp, answer := c.as("admin", "POST", "/events", said(t, e), "Content-Type", cloudJSON); resp.StatusCode == http.StatusAccepted {
			t.Errorf("%T: %s", content, answer)
		}
	}
}

// Whoever guesses the id of another's claim, or of a fact to come, does not keep it from the stream.
func TestHostilePredictedID(t *testing.T) {
	c := newClosed(t)
	e := ticket("t1", "mine")
	first, second := c.claimAs("speaks", e), c.claimAs("keeper", e)
	if first.Duplicate || second.Duplicate || first.Sequence == second.Sequence {
		t.Errorf("%+v, %+v", first, second)
	}
	// The header of the bus over HTTP is no header of the bus.
	e.ID = "another"
	resp, answer := c.as("speaks", "POST", "/events", said(t, e), "Content-Type", cloudJSON, "Nats-Msg-Id", "f/fact-to-come", "Nats-Rollup", "all", "Nats-Schedule", "@every 1s", "Nats-TTL", "1s")
	var r receipt
	if err := json.Unmarshal([]byte(answer), &r); err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("%d %s", resp.StatusCode, answer)
	}
	st, err := c.host.JS.Stream(t.Context(), "LIFECYCLE")
	if err != nil {
		t.Fatal(err)
	}
	m, err := st.GetMsg(t.Context(), r.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Nats-Rollup", "Nats-Schedule", "Nats-TTL"} {
		if v := m.Header[name]; len(v) > 0 {
			t.Errorf("%s: %v", name, v)
		}
	}
	if id := m.Header.Get(nats.MsgIdHdr); !strings.HasPrefix(id, "c/") {
		t.Errorf("its message id is %s", id)
	}
}

// A guess at a token costs a guesser 256 bits, and tells nothing: neither whether the id, nor whether the name is there.
func TestHostileGuesses(t *testing.T) {
	c := newClosed(t)
	var answers []string
	for _, who := range []string{"guess", "gone"} {
		resp, answer := c.as(who, "GET", "/events?project=shop", "")
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d", who, resp.StatusCode)
		}
		answers = append(answers, answer)
	}
	if answers[0] != answers[1] {
		t.Errorf("a wrong secret and a revoked token are told apart: %q", answers)
	}
}

func (c *closed) claimAs(who string, e events.Event) receipt {
	c.t.Helper()
	resp, answer := c.as(who, "POST", "/events", said(c.t, e), "Content-Type", cloudJSON)
	var r receipt
	if err := json.Unmarshal([]byte(answer), &r); err != nil || resp.StatusCode != http.StatusAccepted {
		c.t.Fatalf("%s: %d %s", who, resp.StatusCode, answer)
	}
	return r
}

// Only the body is signed. Who has overheard a delivery sends it again: as it was, as another event, to another project.
func TestHostileReplayedWebhook(t *testing.T) {
	w := hooked(t)
	body := payload(t, "github_pull_request_opened")
	signed := proof("github", hookSecret, body)
	if status, a := w.deliver("github", "pull_request", body, signed...); status != http.StatusAccepted || len(a.Claims) == 0 {
		t.Fatalf("%d %+v", status, a)
	}
	end := w.end()
	if status, a := w.deliver("github", "pull_request", body, append(signed, "X-GitHub-Delivery", "another")...); status != http.StatusOK || !a.Claims[0].Duplicate {
		t.Errorf("again: %d %+v", status, a)
	}
	if status, a := w.deliver("github", "pull_request_review", body, signed...); status != http.StatusBadRequest {
		t.Errorf("as another event: %d %+v", status, a)
	}
	for _, project := range []string{"lost", "other"} {
		resp, answer := w.send(http.MethodPost, "/webhooks/github/"+project, body, append(signed, "X-GitHub-Event", "pull_request")...)
		if resp.StatusCode < 400 {
			t.Errorf("to %s: %d %s", project, resp.StatusCode, answer)
		}
	}
	if w.end() != end {
		t.Error("something reached the stream")
	}
}

// steered submits an event with a header that the bus obeys, then one without, and returns what stands on the stream when
// the second one does.
func steered(t *testing.T, header, value string) (*world, page) {
	t.Helper()
	w := newWorld(t)
	w.claim(ticket("before", "x"))
	js := w.submitter()
	m := &nats.Msg{Subject: "submit.local.x", Data: []byte(structured(t, ticket("steered", "x"))), Header: nats.Header{header: {value}}}
	if header == "Nats-Schedule" {
		m.Header["Nats-Schedule-Target"] = []string{"lifecycle.shop.plan.ticket.created.forged"}
	}
	if _, err := js.PublishMsg(t.Context(), m); err == nil {
		t.Logf("the inbox took %s", header)
	}
	w.submit(js, "submit.local.x", structured(t, ticket("end", "x")))
	var p page
	w.until("the last one is a claim", func() bool { w.get("/events", &p); return strings.HasSuffix(p.ids(), "claim:end") })
	return w, p
}

// A schedule would have the bus itself put a fact on the stream, now and again.
func TestHostileSchedule(t *testing.T) {
	for _, at := range []string{"@at 2020-01-01T00:00:00Z", "@every 1s"} {
		_, p := steered(t, "Nats-Schedule", at)
		for _, e := range p.Events {
			if e["kind"] != "claim" {
				t.Errorf("%s: %v", at, e)
			}
		}
	}
}

// A rollup would drop what stands on the stream.
func TestHostileRollup(t *testing.T) {
	for _, what := range []string{"all", "sub"} {
		w, p := steered(t, "Nats-Rollup", what)
		if !strings.HasPrefix(p.ids(), "claim:before") {
			t.Errorf("%s: %s", what, p.ids())
		}
		s, err := w.host.JS.Stream(t.Context(), "LIFECYCLE")
		if err != nil || s.CachedInfo().State.FirstSeq != 1 || s.CachedInfo().State.NumDeleted != 0 {
			t.Errorf("%s: %+v %v", what, s.CachedInfo().State, err)
		}
	}
}

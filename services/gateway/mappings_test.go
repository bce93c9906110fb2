package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

// mapped is the configuration of a project that hears of Acme's builds and tickets.
func mapped() events.Project {
	p := events.DefaultProject("shop")
	p.Mappings = []events.Mapping{
		{When: `type == "com.acme.ticket"`, Type: "ticket.created", Subject: "data.key", Fields: map[string]string{
			"summary": "data.title", "creator": "data.by", "uri": "source + data.key",
		}},
		{When: `type == "com.acme.approved"`, Type: "approval.given", Subject: `"prod/api"`, Fields: map[string]string{
			"environment": `"prod"`, "service": `"api"`, "by": "data.by",
		}},
		{When: `type.startsWith("com.acme.long")`, Type: "ticket.created", Subject: "id", Fields: map[string]string{"summary": "data.title", "creator": "id", "uri": "id"}},
	}
	return p
}

func acme(id string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/acme/","type":"com.acme.ticket","project":"shop","data":{"key":"T-%s","title":"Slow","by":"ann"}}`, id, id)
}

func acmeBinary(id string) (body string, headers []string) {
	return fmt.Sprintf(`{"key":"T-%s","title":"Slow","by":"ann"}`, id),
		[]string{"ce-specversion", "1.0", "ce-id", id, "ce-source", "/acme/", "ce-type", "com.acme.ticket", "ce-project", "shop", "Content-Type", "application/json"}
}

func TestMappedOverHTTP(t *testing.T) {
	w := newWorld(t)
	w.configure(mapped())
	post := func(body string, headers ...string) (int, receipt) {
		t.Helper()
		resp, answer := w.send(http.MethodPost, "/events", body, headers...)
		var r receipt
		if err := json.Unmarshal([]byte(answer), &r); err != nil {
			t.Fatalf("%d %s", resp.StatusCode, answer)
		}
		return resp.StatusCode, r
	}
	status, r := post(acme("1"), "Content-Type", cloudJSON)
	if status != 202 || r.Project != "shop" || r.Phase != "plan" || r.ID != "1" {
		t.Errorf("structured: %d %+v", status, r)
	}
	e, data, subject := w.stored(r.Sequence)
	if c, ok := e.Content.(events.TicketCreated); !ok || c.Summary != "Slow" || c.Creator != "ann" || c.URI != "/acme/T-1" || e.Key != "T-1" || e.Principal != "local" || e.Source != "/acme/" {
		t.Errorf("stored %+v", e)
	}
	if !strings.HasPrefix(subject, "claims.shop.plan.ticket.created.") || !strings.Contains(string(data), `"original":{"specversion"`) {
		t.Errorf("on %s: %s", subject, data)
	}
	if s, again := post(acme("1"), "Content-Type", cloudJSON); s != 202 || !again.Duplicate || again.Sequence != r.Sequence {
		t.Errorf("again: %d %+v", s, again)
	}
	body, headers := acmeBinary("1")
	if s, again := post(body, headers...); s != 202 || !again.Duplicate {
		t.Errorf("the same in binary mode: %d %+v", s, again)
	}
	if body, headers = acmeBinary("2"); true {
		if status, r = post(body, headers...); status != 202 || r.Duplicate {
			t.Errorf("binary: %d %+v", status, r)
		}
	}

	// A batch: taken, a CDEvent, none that a mapping takes, a mapping that fails, another project's.
	batch := "[" + strings.Join([]string{
		acme("3"), structured(t, ticket("t1", "x")), strings.Replace(acme("4"), "com.acme.ticket", "com.acme.lunch", 1),
		strings.Replace(acme("5"), `"by":"ann"`, `"of":"ann"`, 1), strings.Replace(acme("6"), `"project":"shop"`, `"project":"other"`, 1),
	}, ",") + "]"
	resp, answer := w.send(http.MethodPost, "/events", batch, "Content-Type", "application/cloudevents-batch+json")
	var each []receipt
	if err := json.Unmarshal([]byte(answer), &each); err != nil || resp.StatusCode != http.StatusMultiStatus || len(each) != 5 {
		t.Fatalf("%d %s", resp.StatusCode, answer)
	}
	for i, want := range []struct {
		status int
		detail string
	}{{202, ""}, {202, ""}, {400, `unknown event type "com.acme.lunch": it is no CDEvent, and no mapping of the project takes it`}, {400, "mappings[0]: fields.creator: no such key: by"}, {400, "no mapping of the project takes it"}} {
		if each[i].Status != want.status || !strings.Contains(each[i].Detail, want.detail) {
			t.Errorf("%d of the batch: %+v", i, each[i])
		}
	}
}

func TestMappedRefuses(t *testing.T) {
	w := newWorld(t)
	w.configure(mapped())
	body, headers := acmeBinary("1")
	tests := map[string]struct {
		body    string
		headers []string
		status  int
		reason  string
	}{
		"no project":                  {strings.Replace(acme("1"), `"project":"shop",`, "", 1), []string{"Content-Type", cloudJSON}, 400, "extension project is missing"},
		"what is no project":          {strings.Replace(acme("1"), `"shop"`, `"Shop!"`, 1), []string{"Content-Type", cloudJSON}, 403, "project name"},
		"what breaks the schema":      {strings.Replace(acme("1"), `"title":"Slow"`, `"title":{"a":1}`, 1), []string{"Content-Type", cloudJSON}, 400, "mappings[0]: "},
		"base64":                      {strings.Replace(acme("1"), `"data":{`, `"data_base64":"e30=","x":{`, 1), []string{"Content-Type", cloudJSON}, 400, "its data is no JSON"},
		"XML":                         {"<a/>", append(headers[:10:10], "Content-Type", "application/xml"), 415, "not application/json"},
		"broken JSON":                 {body[:10], headers, 400, "its data is no JSON"},
		"a member twice":              {strings.Replace(acme("1"), `"title":"Slow"`, `"title":"Slow","title":"Fast"`, 1), []string{"Content-Type", cloudJSON}, 400, "twice"},
		"an old version":              {strings.Replace(acme("1"), `"1.0"`, `"0.3"`, 1), []string{"Content-Type", cloudJSON}, 400, "specversion"},
		"control characters":          {strings.Replace(acme("1"), `"id":"1"`, `"id":"a\r\nNats-Rollup: all"`, 1), []string{"Content-Type", cloudJSON}, 400, "control characters"},
		"too large":                   {strings.Replace(acme("1"), "Slow", strings.Repeat("x", 600_000), 1), []string{"Content-Type", cloudJSON}, 413, "1 MiB"},
		"a CDEvent that is not known": {strings.Replace(acme("1"), "com.acme.ticket", "dev.cdevents.ticket.eaten.0.1.0", 1), []string{"Content-Type", cloudJSON}, 400, "unknown event type"},
	}
	for name, tt := range tests {
		resp, answer := w.send(http.MethodPost, "/events", tt.body, tt.headers...)
		if resp.StatusCode != tt.status || !strings.Contains(answer, tt.reason) {
			t.Errorf("%s: %d %.300s, want %d with %s", name, resp.StatusCode, answer, tt.status, tt.reason)
		}
	}
	// A configuration that came past `lemnis apply` tells what is wrong with it.
	bad := mapped()
	bad.Name, bad.Mappings[0].When = "bad", "type =="
	w.configure(bad)
	if resp, answer := w.send(http.MethodPost, "/events", strings.Replace(acme("1"), `"shop"`, `"bad"`, 1), "Content-Type", cloudJSON); resp.StatusCode != 400 || !strings.Contains(answer, "mappings[0].when: at 1:") {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
}

// A new revision of the configuration counts from when it is stated.
func TestMappedByRevision(t *testing.T) {
	w := newWorld(t)
	w.configure(mapped())
	if resp, answer := w.send(http.MethodPost, "/events", acme("1"), "Content-Type", cloudJSON); resp.StatusCode != 202 {
		t.Fatalf("%d %s", resp.StatusCode, answer)
	}
	p := mapped()
	p.Mappings = p.Mappings[1:]
	e := fact(p.Name, p.Name, events.Plan, events.ProjectConfigured{Revision: 2, Project: p})
	e.Aggregate, e.ID = "configuration", "second"
	sequence := w.state(e)
	w.until("the configuration is known", func() bool {
		var o struct{ Sequence uint64 }
		w.get("/api/v1/overview", &o)
		return o.Sequence >= sequence
	})
	if resp, answer := w.send(http.MethodPost, "/events", acme("2"), "Content-Type", cloudJSON); resp.StatusCode != 400 || !strings.Contains(answer, "no mapping of the project takes it") {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
}

func TestMappedOverNATS(t *testing.T) {
	w := newWorld(t)
	w.configure(mapped())
	js := w.submitter()
	const subject = "submit.local.acme"
	w.submit(js, subject, acme("1"), "Content-Type", cloudJSON)
	body, headers := acmeBinary("2")
	w.submit(js, subject, body, headers...)
	w.submit(js, subject, acme("3"))                                                            // without any header
	w.submit(js, subject, acme("1"), "Content-Type", cloudJSON)                                 // the same again
	w.submit(js, subject, strings.Replace(acme("4"), "com.acme.ticket", "com.acme.lunch", 1))   // nothing takes it
	w.submit(js, subject, body, append(headers[:10:10], "Content-Type", "application/xml")...)  // no JSON
	w.submit(js, subject, strings.Replace(acme("5"), `"by":"ann"`, `"of":"ann"`, 1))            // the mapping fails
	w.submit(js, subject, body, append(headers, "Ce-Type", "other", "ce-principal", "root")...) // the bus's names have a case
	w.submit(js, subject, acme("end"))
	var p page
	w.until("the last one is a claim", func() bool {
		w.get("/events?type=ticket.created&phase=plan", &p)
		return strings.HasSuffix(p.ids(), "claim:T-end")
	})
	if p.ids() != "claim:T-1 claim:T-2 claim:T-3 claim:T-end" {
		t.Errorf("claims %s", p.ids())
	}
	for _, e := range p.Events {
		if e["principal"] != "local" {
			t.Errorf("said by %v", e["principal"])
		}
	}
	var l letters
	w.get("/api/v1/deadletters", &l)
	for i, want := range []string{"no mapping of the project takes it", "", "no such key: by"} {
		if i >= len(l.DeadLetters) || !strings.Contains(l.DeadLetters[i].Reason, want) {
			t.Fatalf("dead letters %+v, want %s at %d", l.DeadLetters, want, i)
		}
	}
	if len(l.DeadLetters) != 3 || l.DeadLetters[0].Project != "shop" {
		t.Errorf("dead letters %+v", l.DeadLetters)
	}
}

// A mapping gives nobody a right: what it makes is judged by who said it, and who may say nothing of the project is told
// nothing of its mappings.
func TestHostileMapping(t *testing.T) {
	c := newClosed(t)
	p := mapped()
	p.Environments = []events.Environment{{Name: "prod", Target: "process"}}
	e := fact(p.Name, p.Name, events.Plan, events.ProjectConfigured{Revision: 1, Project: p})
	e.Aggregate = "configuration"
	sequence := c.state(e)
	c.until("the configuration is known", func() bool {
		_, answer := c.as("admin", "GET", "/api/v1/overview", "")
		var o struct{ Sequence uint64 }
		return json.Unmarshal([]byte(answer), &o) == nil && o.Sequence >= sequence
	})
	approved := strings.Replace(acme("a"), "com.acme.ticket", "com.acme.approved", 1)
	for who, want := range map[string][2]int{ // of the ticket, of the approval
		"speaks": {202, 403}, "builds": {403, 403}, "decides": {403, 202}, "reader": {403, 403}, "stranger": {403, 403}, "admin": {202, 202}, "none": {401, 401},
	} {
		for i, body := range []string{acme("b"), approved} {
			resp, answer := c.as(who, "POST", "/events", body, "Content-Type", cloudJSON)
			if resp.StatusCode != want[i] {
				t.Errorf("%s of %s: %d %s", who, []string{"the ticket", "the approval"}[i], resp.StatusCode, answer)
			}
		}
	}
	resp, answer := c.as("stranger", "POST", "/events", strings.Replace(acme("c"), "com.acme.ticket", "com.acme.lunch", 1), "Content-Type", cloudJSON)
	if resp.StatusCode != 403 || strings.Contains(answer, "mapping") {
		t.Errorf("a stranger is told: %d %s", resp.StatusCode, answer)
	}
}

// Whatever comes in whatever mode, it is answered, and not with a mistake of the server.
func FuzzMapped(f *testing.F) {
	w := newWorld(f)
	w.configure(mapped())
	f.Add(acme("1"), cloudJSON, "")
	f.Add("["+acme("2")+"]", "application/cloudevents-batch+json", "")
	f.Add(`{"key":"a","title":"b","by":"c"}`, "application/json", "com.acme.ticket")
	f.Add(`{"title":1e400}`, "application/json", "com.acme.long")
	f.Fuzz(func(t *testing.T, body, contentType, typ string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/events", strings.NewReader(body))
		if err != nil {
			t.Skipf("SKIPPED: no request can be made of it: %v", err)
		}
		r.Header.Set("Content-Type", contentType)
		if typ != "" {
			for name, v := range map[string]string{"specversion": "1.0", "id": "1", "source": "/s", "project": "shop", "type": typ} {
				r.Header.Set("Ce-"+name, v)
			}
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return // what no header may hold is not sent
		}
		_ = resp.Body.Close()
		if resp.StatusCode >= 500 {
			t.Errorf("%d for %q as %s, %s", resp.StatusCode, body, contentType, typ)
		}
	})
}

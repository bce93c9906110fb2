package gateway

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/pkg/events"
)

func testDoor() door {
	return door{
		project: func(_ context.Context, name string) (events.Project, error) { return events.DefaultProject(name), nil },
		seal: func(_ context.Context, _, _ string, text []byte) (string, string, []byte, error) {
			return "pseudonym", "key", bytes.Repeat([]byte{7}, len(text)), nil
		},
		inDeploy: func(context.Context, string, string) (bool, error) { return false, nil },
		may:      func(context.Context, events.Event) error { return nil },
	}
}

// checkAdmitted holds what must be true of whatever gets in.
func checkAdmitted(t *testing.T, c claim, body []byte) {
	t.Helper()
	m := c.message
	for name := range m.Header {
		if strings.HasPrefix(strings.ToLower(name), "nats-") && name != nats.MsgIdHdr {
			t.Errorf("header %s", name)
		}
	}
	if tokens := strings.Split(m.Subject, "."); len(tokens) != 6 || tokens[0] != "claims" || strings.ContainsAny(m.Subject, "*> \t\r\n") || len(m.Subject) > 2000 {
		t.Errorf("subject %q", m.Subject)
	}
	e, err := events.Decode(m.Header, m.Data)
	if err != nil {
		t.Fatalf("what was admitted can not be read: %v", err)
	}
	if e.Principal != "local" || e.Cause != "" || e.Aggregate != "" || e.CauseSequence != 0 || e.ConfigRevision != 0 || e.Attempt != 0 || !e.Deadline.IsZero() {
		t.Errorf("an outsider's word: %+v", e)
	}
	if e.Key != e.SubjectID || e.Chain == "" || e.TraceParent != events.TraceContext(e.Project, e.Chain, e.ID) || !e.Phase.Valid() || events.ValidProject(e.Project) != nil {
		t.Errorf("no claim: %+v", e)
	}
	if e.ID != c.event.ID || e.Source != c.event.Source || e.Chain != c.event.Chain {
		t.Errorf("read back %q %q %q, was %q %q %q", e.ID, e.Source, e.Chain, c.event.ID, c.event.Source, c.event.Chain)
	}
	if _, ok := e.Content.(events.FeedbackReceived); !ok && !bytes.Equal(m.Data, body) {
		t.Error("the body was changed")
	}
	if len(m.Data) > 1<<20 {
		t.Error("too large")
	}
}

func FuzzAdmit(f *testing.F) {
	goldens, err := filepath.Glob("../../pkg/events/testdata/*.json")
	if err != nil || len(goldens) == 0 {
		f.Fatal("no golden events", err)
	}
	for i, name := range goldens {
		body, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		e, err := events.DecodeBody(body)
		if err != nil {
			f.Fatal(err)
		}
		e.Project = "shop"
		wrapped, err := events.EncodeStructuredWith(e, body)
		if err != nil {
			f.Fatal(err)
		}
		switch i % 3 {
		case 0:
			f.Add(wrapped, "application/cloudevents+json", "", "", "", "")
		case 1:
			f.Add(append(append([]byte("["), wrapped...), ']'), "application/cloudevents-batch+json", "", "", "", "")
		default:
			f.Add(body, "application/json", string(e.Type), e.ID, "shop", "a%0d%0aNats-Rollup: all")
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, contentType, typ, id, project, other string) {
		h := http.Header{"Content-Type": {contentType}, "Ce-Specversion": {"1.0"}, "Ce-Type": {typ}, "Ce-Id": {id}, "Ce-Source": {other}, "Ce-Project": {project}, "Ce-Causationid": {other}, "Ce-Principal": {other}, "Ce-Traceparent": {other}, "Ce-Chainid": {other}, "Ce-Aggregate": {other}}
		if _, err := contentMode(h); err == nil {
			decoded, err := events.DecodeHTTP(h, body)
			if err == nil {
				for _, d := range decoded {
					if d.Err == nil {
						tryAdmit(t, d.Event, d.Body)
					}
				}
			}
		}
		n := nats.Header{"content-type": {contentType}, "ce-specversion": {"1.0"}, "ce-type": {typ}, "ce-id": {id}, "ce-source": {other}, "ce-project": {project}, "ce-principal": {other}}
		if e, inner, err := events.DecodeMessage(n, body); err == nil {
			tryAdmit(t, e, inner)
		}
	})
}

func tryAdmit(t *testing.T, e events.Event, body []byte) {
	t.Helper()
	c, err := testDoor().admit(t.Context(), "local", e, body)
	if err == nil {
		checkAdmitted(t, c, body)
		return
	}
	var no *refusal
	if !errors.As(err, &no) || no.status < 400 || no.status > 499 || no.reason == "" {
		t.Errorf("refused without a reason for its author: %v", err)
	}
}

// Every type that can be claimed gets in, as its golden file has it.
func TestAdmitGoldens(t *testing.T) {
	for _, entry := range events.Catalogue() {
		body, err := os.ReadFile("../../pkg/events/testdata/" + entry.Type.Short() + ".json")
		if err != nil {
			t.Fatal(err)
		}
		e, err := events.DecodeBody(body)
		if err != nil {
			t.Fatal(err)
		}
		e.Project = "shop"
		if c, ok := e.Content.(events.FeedbackReceived); ok {
			c.Key, c.Text = "", []byte("x")
			e.Content = c
			if body, err = e.AppendBody(nil); err != nil {
				t.Fatal(err)
			}
		}
		c, err := testDoor().admit(t.Context(), "local", e, body)
		var no *refusal
		switch {
		case entry.Claimable && err != nil:
			t.Errorf("%s: %v", entry.Type.Short(), err)
		case entry.Claimable:
			checkAdmitted(t, c, body)
		case !errors.As(err, &no) || no.status != http.StatusForbidden:
			t.Errorf("%s: %v", entry.Type.Short(), err)
		}
	}
}

func TestRepeatedMember(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":1,"b":{"a":2},"c":[{"a":1},{"a":2}]}`: "", `{"a":1,"a":2}`: "a", `{"x":{"b":[1,{"c":1,"c":2}]}}`: "c", `{"a":"a","b":"a"}`: "",
		`{"a":1,"\u0061":2}`: "a", `["a","a"]`: "", `{"a":{},"a":[]}`: "a", `1`: "", `{"a":null,"b":{"a":[]},"a":1}`: "a",
	} {
		if got, err := repeatedMember([]byte(text), nil); got != want || err != nil {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}

// What differs in case only is one member to encoding/json, by which the services read.
func TestFoldedMember(t *testing.T) {
	for text, want := range map[string]string{
		`{"sink":1,"Sink":2}`: "Sink", `{"sink":1,"\u017fin\u212a":2}`: "\u017fin\u212a", `{"a":{"b":1},"b":2}`: "", `{"sink":1,"sinks":2}`: "",
	} {
		if got, err := repeatedMember([]byte(text), folded); got != want || err != nil {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	body, err := os.ReadFile("../../pkg/events/testdata/approval.given.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Environment", "ENVIRONMENT"} {
		evil := bytes.Replace(body, []byte(`"environment": "prod"`), []byte(`"environment": "prod", "`+name+`": "evil"`), 1)
		if bytes.Equal(evil, body) {
			t.Fatal("the environment is not there")
		}
		e, err := events.DecodeBody(evil)
		if err != nil {
			t.Fatal(err)
		}
		var no *refusal
		if _, err := judge(e, evil); !errors.As(err, &no) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

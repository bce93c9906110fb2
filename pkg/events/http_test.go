package events_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/eventstest"
)

func TestHTTPBinary(t *testing.T) {
	want := eventstest.Example("dev.cdevents.change.merged.0.3.0")
	want.Key, want.Principal = "ключ \"42\"", "100%"
	header, body, err := events.EncodeHTTP(want)
	if err != nil {
		t.Fatal(err)
	}
	// Over a real connection, since that is what mangles headers.
	type request struct {
		header http.Header
		body   []byte
	}
	received := make(chan request, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		received <- request{r.Header, data}
	}))
	defer srv.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	resp, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	got := receive(t, received)
	decoded, err := events.DecodeHTTP(got.header, got.body)
	if err != nil || len(decoded) != 1 || decoded[0].Err != nil {
		t.Fatalf("%v, %+v", err, decoded)
	}
	equal(t, want, decoded[0].Event)
	if !bytes.Equal(decoded[0].Body, body) {
		t.Errorf("body %s", decoded[0].Body)
	}

	header.Set("ce-key", `"a \"quoted\" k%65y"`)
	if decoded, err = events.DecodeHTTP(header, body); err != nil || decoded[0].Event.Key != `a "quoted" key` {
		t.Errorf("%v, %q", err, decoded[0].Event.Key)
	}
}

func TestHTTPStructuredAndBatch(t *testing.T) {
	first, second := eventstest.Example("dev.cdevents.change.merged.0.3.0"), eventstest.Example("dev.cdeventsx.lemnis-backlog.ranked.0.1.0")
	one, err := events.EncodeStructured(first)
	if err != nil {
		t.Fatal(err)
	}
	two, err := events.EncodeStructured(second)
	if err != nil {
		t.Fatal(err)
	}
	decode := func(contentType, body string) []events.Decoded {
		t.Helper()
		out, err := events.DecodeHTTP(http.Header{"Content-Type": {contentType}}, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	got := decode("application/cloudevents+json; charset=utf-8", string(one))
	if len(got) != 1 || got[0].Err != nil {
		t.Fatalf("%+v", got)
	}
	equal(t, first, got[0].Event)

	got = decode("application/cloudevents-batch+json", fmt.Sprintf(`[%s, {"specversion":"1.0"}, 7, %s, %s]`, one, two, strings.Replace(string(two), "ranked", "eaten", 2)))
	if len(got) != 5 || got[0].Err != nil || got[3].Err != nil {
		t.Fatalf("%+v", got)
	}
	equal(t, first, got[0].Event)
	equal(t, second, got[3].Event)
	for i, want := range map[int]error{1: events.ErrNoCloudEvent, 2: events.ErrNoCloudEvent, 4: events.ErrUnknownType} {
		if !errors.Is(got[i].Err, want) || got[i].Body != nil {
			t.Errorf("%d: %+v", i, got[i])
		}
	}
	if got := decode("application/cloudevents-batch+json", " [] "); len(got) != 0 {
		t.Errorf("an empty batch: %+v", got)
	}
}

func TestHTTPSaysWhatIsWrong(t *testing.T) {
	header, body, err := events.EncodeHTTP(smallFact())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, header, value, body string
		want                      error
		says                      string
	}{
		{"no header", "Ce-Type", "", "", events.ErrNoCloudEvent, "no CloudEvent: neither a header ce-type nor the content type application/cloudevents+json"},
		{"avro", "Content-Type", "application/cloudevents+avro", "", events.ErrNoCloudEvent, "application/cloudevents+avro is not supported"},
		{"no type", "Content-Type", ";;", "", events.ErrNoCloudEvent, "malformed"},
		{"charset", "Content-Type", "application/json; charset=latin1", "", events.ErrNoCloudEvent, "charset latin1"},
		{"text", "Content-Type", "text/plain", "", events.ErrNotCDEvent, "its content type is text/plain"},
		{"old", "Ce-Specversion", "0.3", "", events.ErrNoCloudEvent, `ce-specversion is "0.3"`},
		{"no source", "Ce-Source", "", "", events.ErrNoCloudEvent, "header ce-source is missing"},
		{"no CDEvent", "", "", `{"hello":"world"}`, events.ErrNotCDEvent, "not a CDEvent: context.id is missing"},
		{"unknown", "Ce-Type", "com.example.thing", "", events.ErrUnknownType, `unknown event type "com.example.thing"`},
		{"structured", "Content-Type", "application/cloudevents+json", "[]", events.ErrNoCloudEvent, "no CloudEvent"},
		{"structured, trailing", "Content-Type", "application/cloudevents+json", "{} {}", events.ErrNoCloudEvent, "after top-level value"},
		{"structured, no data", "Content-Type", "application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/s","type":"dev.cdevents.change.merged.0.3.0"}`, events.ErrNotCDEvent, "no data"},
		{"batch", "Content-Type", "application/cloudevents-batch+json", "{}", events.ErrNoCloudEvent, "a batch is a JSON array of events"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, b := header.Clone(), body
			if c.header != "" {
				h.Set(c.header, c.value)
			}
			if c.body != "" {
				b = []byte(c.body)
			}
			got, err := events.DecodeHTTP(h, b)
			if err == nil && len(got) == 1 {
				err = got[0].Err
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestDecodeMessage(t *testing.T) {
	e := eventstest.Example("dev.cdevents.change.merged.0.3.0")
	binary, err := events.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	structured, err := events.EncodeStructured(e)
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*nats.Msg{
		"binary":           binary,
		"structured":       {Header: nats.Header{"Content-Type": {"application/cloudevents+json; charset=UTF-8"}}, Data: structured},
		"without a header": {Data: structured},
	} {
		got, body, err := events.DecodeMessage(m.Header, m.Data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		equal(t, e, got)
		if !sameJSON(t, body, binary.Data) {
			t.Errorf("%s: body %s", name, body)
		}
	}
	for name, m := range map[string]*nats.Msg{
		"nothing": {}, "text": {Data: []byte("hello")}, "batch": {Header: nats.Header{"content-type": {"application/cloudevents-batch+json"}}, Data: []byte("[]")},
		"a number": {Header: nats.Header{"content-type": {"text/plain"}}, Data: []byte("1")},
	} {
		if _, _, err := events.DecodeMessage(m.Header, m.Data); !errors.Is(err, events.ErrNoCloudEvent) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

package events_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/eventstest"
)

func equal(t testing.TB, want, got events.Event) {
	t.Helper()
	if reflect.DeepEqual(want, got) {
		return
	}
	w, g := reflect.ValueOf(want), reflect.ValueOf(got)
	for i := range w.NumField() {
		if a, b := w.Field(i).Interface(), g.Field(i).Interface(); !reflect.DeepEqual(a, b) {
			t.Errorf("%s: want %+v\ngot %+v", w.Type().Field(i).Name, a, b)
		}
	}
}

// Every type survives both content modes, filled and empty, with and without foreign custom data.
func TestRoundTrip(t *testing.T) {
	for _, filled := range eventstest.Examples() {
		entry, _ := events.Lookup(filled.Type)
		bare := events.Event{ID: "1", Source: "/s", Type: filled.Type, Time: filled.Time, Phase: entry.Phase, Project: "shop", Key: "k", SubjectID: "k", Content: entry.Zero()}
		strange := filled
		strange.Project, strange.Key, strange.SubjectID, strange.Principal = "shöp \"%41\"\n", "ключ%", "a\tb\\\u2028<&>", " ann "
		custom := filled
		custom.Custom, custom.CustomType = []byte(`{"a":{"b":[1,"lemnis"]},"c":null}`), "application/json"
		for name, e := range map[string]events.Event{"filled": filled, "bare": bare, "strange": strange, "custom": custom} {
			t.Run(filled.Type.Short()+"/"+name, func(t *testing.T) {
				m, err := events.Encode(e)
				if err != nil {
					t.Fatal(err)
				}
				got, err := events.Decode(m.Header, m.Data)
				if err != nil {
					t.Fatalf("%v in %s", err, m.Data)
				}
				equal(t, e, got)

				e.Kind, e.Sequence, e.Stored = events.Stated, 42, time.Date(2026, 5, 4, 10, 0, 0, 123, time.UTC)
				data, err := events.EncodeStructured(e)
				if err != nil {
					t.Fatal(err)
				}
				got, body, err := events.DecodeStructured(data)
				if err != nil {
					t.Fatalf("%v in %s", err, data)
				}
				got.Custom = compact(t, got.Custom)
				equal(t, e, got)
				if !sameJSON(t, body, m.Data) {
					t.Errorf("the body came back as %s, not %s", body, m.Data)
				}
			})
		}
	}
}

// What Lemnis adds and what somebody else adds share customData, in any order of its members.
func TestCustomData(t *testing.T) {
	body := func(custom string) []byte {
		return []byte(`{"context":{"specversion":"0.5.1","id":"1","source":"/s","type":"dev.cdevents.change.reviewed.0.3.0","timestamp":"2026-03-01T12:00:00+01:00"},` +
			`"subject":{"id":"42","content":{}},"customData":` + custom + `,"customDataContentType":"application/json"}`)
	}
	for custom, want := range map[string]struct {
		reviewer, rest string
	}{
		`{"lemnis":{"reviewer":"bo"}}`:                     {"bo", ""},
		`{ "a" : 1 , "lemnis" : {"reviewer":"bo"} }`:       {"bo", `{"a":1}`},
		`{"lemnis":{"reviewer":"bo"},"a":1,"b":[{}]}`:      {"bo", `{"a":1,"b":[{}]}`},
		`{"l\u0065mnis":{"reviewer":"bo"},"\u0061\"":"}"}`: {"bo", `{"a\"":"}"}`},
		`{}`:              {"", `{}`},
		`{"a":1}`:         {"", `{"a":1}`},
		`[1,2]`:           {"", `[1,2]`},
		`"text"`:          {"", `"text"`},
		`null`:            {"", ""},
		`{"lemnis":null}`: {"", ""},
		`{"nested":{"lemnis":{"reviewer":"bo"}}}`: {"", `{"nested":{"lemnis":{"reviewer":"bo"}}}`},
	} {
		t.Run(custom, func(t *testing.T) {
			e, err := events.DecodeBody(body(custom))
			if err != nil {
				t.Fatal(err)
			}
			if got := e.Content.(events.ChangeReviewed).Lemnis.Reviewer; got != want.reviewer {
				t.Errorf("reviewer %q", got)
			}
			if want.rest == "" && e.Custom != nil || want.rest != "" && !sameJSON(t, e.Custom, []byte(want.rest)) {
				t.Errorf("custom data %s", e.Custom)
			}
			again, err := e.AppendBody(nil)
			if err != nil {
				t.Fatal(err)
			}
			back, err := events.DecodeBody(again)
			if err != nil {
				t.Fatalf("%v in %s", err, again)
			}
			e.Custom, back.Custom = compact(t, e.Custom), compact(t, back.Custom)
			equal(t, e, back)
		})
	}
}

func TestCustomDataGivesWay(t *testing.T) {
	e := eventstest.Example("dev.cdevents.change.reviewed.0.3.0")
	for custom, want := range map[string]string{
		`"text"`:                  `{"lemnis":{"reviewer":"bo"}}`,
		`{}`:                      `{"lemnis":{"reviewer":"bo"}}`,
		`{ "lemnis":{}, "a":[] }`: `{"lemnis":{"reviewer":"bo"},"a":[]}`,
	} {
		e.Content, e.Custom = events.ChangeReviewed{Lemnis: events.Review{Reviewer: "bo"}}, []byte(custom)
		body, err := e.AppendBody(nil)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(body), `"customData":`+want) {
			t.Errorf("%s became %s", custom, body)
		}
	}
	e.Custom = []byte(`{"a":`)
	if _, err := e.AppendBody(nil); err == nil {
		t.Error("malformed custom data was encoded")
	}
}

func TestEncodeRefuses(t *testing.T) {
	e := smallFact()
	e.Type = "dev.cdevents.ticket.closed.0.2.0"
	if _, err := events.Encode(e); err == nil {
		t.Error("a content of another type was encoded")
	}
	e = smallFact()
	e.Content = struct{}{}
	if _, err := events.Encode(e); err == nil {
		t.Error("content without a type was encoded")
	}
	e = smallFact()
	e.Type = ""
	m, err := events.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := events.Decode(m.Header, m.Data); err != nil || got.Type != smallFact().Type {
		t.Errorf("the type was not taken from the content: %v", err)
	}
}

// Errors name the place and their kind, since the sender has to act on them.
func TestDecodeSaysWhatIsWrong(t *testing.T) {
	good, err := smallFact().AppendBody(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, old, new string
		is             error
		says           string
	}{
		{"no JSON", `{"context"`, `<`, events.ErrNotCDEvent, "invalid character"},
		{"cut off", `"application/json"}`, `"application/json"`, events.ErrNotCDEvent, "unexpected end"},
		{"trailing", `"application/json"}`, `"application/json"} x`, events.ErrNotCDEvent, "after top-level value"},
		{"no id", `"id":"3f6c7a52-3a0e-5d1b-9a63-6f6e0f5d2a11",`, ``, events.ErrNotCDEvent, "context.id is missing"},
		{"id is a number", `"3f6c7a52-3a0e-5d1b-9a63-6f6e0f5d2a11"`, `7`, events.ErrNotCDEvent, "context.id is no string"},
		{"no source", `"source":"/lemnis/planner",`, ``, events.ErrNotCDEvent, "context.source is missing"},
		{"no subject", `"subject":{"id":"T-17",`, `"subject":{`, events.ErrNotCDEvent, "subject.id is missing"},
		{"no time", `2026-03-01T12:00:00.123456789Z`, `today`, events.ErrNotCDEvent, `context.timestamp "today" is no RFC 3339 time`},
		{"year", `2026-03-01T12:00:00.123456789Z`, `0000-01-01T00:00:00+01:00`, events.ErrNotCDEvent, "outside the years"},
		{"content", `"summary":"Search answers slowly"`, `"summary":[1]`, events.ErrNotCDEvent, "subject.content.summary must not be a JSON array"},
		{"custom", `"origin":"end-user"`, `"origin":7`, events.ErrNotCDEvent, "customData.lemnis.origin must not be a JSON number"},
		{"links", `"links":[{`, `"links":[7,{`, events.ErrNotCDEvent, "malformed JSON"},
		{"unknown", `ticket.created.0.2.0`, `ticket.eaten.0.2.0`, events.ErrUnknownType, `unknown event type "dev.cdevents.ticket.eaten.0.2.0"`},
		{"version", `ticket.created.0.2.0`, `ticket.created.0.1.0`, events.ErrUnknownType, "version 0.1.0 of ticket.created is not supported; this is dev.cdevents.ticket.created.0.2.0"},
		{"short name", `dev.cdevents.ticket.created.0.2.0`, `ticket.created`, events.ErrUnknownType, "in full"},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := strings.Replace(string(good), c.old, c.new, 1)
			if body == string(good) {
				t.Fatal("nothing was replaced")
			}
			_, err := events.DecodeBody([]byte(body))
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
		})
	}
	for name, says := range map[string]string{
		"ce-type": "no CloudEvent: header ce-type is missing", "ce-id": "no CloudEvent: header ce-id is missing",
		"ce-source": "no CloudEvent: header ce-source is missing", "ce-specversion": "no CloudEvent: header ce-specversion is missing",
	} {
		m, _ := events.Encode(smallFact())
		m.Header.Del(name)
		if _, err := events.Decode(m.Header, m.Data); !errors.Is(err, events.ErrNoCloudEvent) || err.Error() != says {
			t.Errorf("without %s: %v", name, err)
		}
	}
	for name, value := range map[string]string{
		"ce-specversion": "0.3", "ce-phase": "lunch", "ce-attempt": "-1", "ce-deadline": "soon", "ce-key": "%ff", "ce-type": "dev.cdevents.ticket.closed.0.2.0", "ce-id": "2",
	} {
		m, _ := events.Encode(smallFact())
		m.Header[name] = []string{value}
		if e, err := events.Decode(m.Header, m.Data); err == nil {
			t.Errorf("%s %s was read as %+v", name, value, e)
		}
	}
	if _, err := events.Decode(nats.Header{}, nil); !errors.Is(err, events.ErrNoCloudEvent) {
		t.Errorf("an empty message: %v", err)
	}
}

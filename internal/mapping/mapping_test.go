package mapping_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/mapping"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/schema"
)

// builds takes what a build server says.
var builds = events.Mapping{
	When: `type == "com.acme.build.done"`, Type: "pipelinerun.finished", Subject: `"run-" + string(data.run)`, Chain: "extensions.turn",
	Fields: map[string]string{
		"pipelineName": "data.job", "outcome": `data.ok ? "success" : "failure"`,
		"errors": `has(data.error) ? data.error : null`,
	},
}

const build = `{"specversion":"1.0","id":"b-1","source":"/acme","type":"com.acme.build.done","project":"shop","turn":"t-9","time":"2026-01-02T03:04:05.6Z","data":{"run":7,"job":"api","ok":true}}`

func compiled(t testing.TB, all ...events.Mapping) mapping.Set {
	t.Helper()
	set, wrong := mapping.Compile(all)
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	return set
}

func structured(t testing.TB, text string) mapping.Event {
	t.Helper()
	in, err := mapping.Structured([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestClaim(t *testing.T) {
	set := compiled(t, builds)
	e, body, err := set.Claim(t.Context(), structured(t, build))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(body); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	c, ok := e.Content.(events.PipelineRunFinished)
	if !ok || c.PipelineName != "api" || c.Outcome != "success" || c.Errors != "" {
		t.Errorf("content %+v", e.Content)
	}
	if e.ID != "b-1" || e.Source != "/acme" || e.SubjectID != "run-7" || e.Chain != "t-9" || e.Project != "shop" || !e.Time.Equal(time.Date(2026, 1, 2, 3, 4, 5, 600e6, time.UTC)) {
		t.Errorf("event %+v", e)
	}
	var got struct {
		CustomData struct{ Original json.RawMessage }
	}
	if err := json.Unmarshal(body, &got); err != nil || string(got.CustomData.Original) != build {
		t.Errorf("the original is %s (%v)", got.CustomData.Original, err)
	}
}

// Null leaves a field out: what is not there, a schema may miss, but an empty text would be said.
func TestNullLeavesOut(t *testing.T) {
	_, body, err := compiled(t, builds).Claim(t.Context(), structured(t, build))
	if err != nil || strings.Contains(string(body), `"errors"`) {
		t.Errorf("%s (%v)", body, err)
	}
	_, body, err = compiled(t, builds).Claim(t.Context(), structured(t, strings.Replace(build, `"ok":true`, `"ok":false,"error":"it broke"`, 1)))
	if err != nil || !strings.Contains(string(body), `"errors":"it broke"`) || !strings.Contains(string(body), `"outcome":"failure"`) {
		t.Errorf("%s (%v)", body, err)
	}
}

func TestBinaryIsStructured(t *testing.T) {
	in, err := mapping.Binary(map[string]string{
		"specversion": "1.0", "id": "b-1", "source": "/acme", "type": "com.acme.build.done", "project": "shop", "turn": "t-9", "time": "2026-01-02T03:04:05.6Z",
	}, []byte(`{"run":7,"job":"api","ok":true}`))
	if err != nil {
		t.Fatal(err)
	}
	one, _, err := compiled(t, builds).Claim(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := compiled(t, builds).Claim(t.Context(), structured(t, build))
	if err != nil || !reflect.DeepEqual(one.Content, other.Content) || one.SubjectID != other.SubjectID || one.Chain != other.Chain || !one.Time.Equal(other.Time) {
		t.Errorf("%+v\n%+v (%v)", one, other, err)
	}
}

func TestFirstMatchCounts(t *testing.T) {
	ticket := func(when, summary string) events.Mapping {
		return events.Mapping{When: when, Type: "ticket.created", Subject: "id", Fields: map[string]string{"summary": summary, "creator": "source", "uri": "source"}}
	}
	set := compiled(t, ticket("data.missing == 1", `"a"`), ticket("data.ok == false", `"b"`), ticket("data.ok == true", `"c"`), ticket("true", `"d"`))
	e, _, err := set.Claim(t.Context(), structured(t, build))
	if err != nil || e.Content.(events.TicketCreated).Summary != "c" {
		t.Errorf("%+v, %v", e.Content, err)
	}
	// A condition that can not be judged is no match; the reason is told when nothing else matches.
	_, _, err = compiled(t, ticket("data.missing == 1", `"a"`)).Claim(t.Context(), structured(t, build))
	if !errors.Is(err, mapping.ErrNone) || !strings.Contains(err.Error(), "mappings[0].when: no such key: missing") {
		t.Errorf("%v", err)
	}
	if _, _, err = mapping.Set(nil).Claim(t.Context(), structured(t, build)); !errors.Is(err, mapping.ErrNone) {
		t.Errorf("%v", err)
	}
}

func TestCompileRefuses(t *testing.T) {
	with := func(change func(*events.Mapping)) events.Mapping {
		m := builds
		m.Fields = map[string]string{"pipelineName": "data.job"}
		change(&m)
		return m
	}
	field := func(path, text string) events.Mapping {
		return with(func(m *events.Mapping) { m.Fields[path] = text })
	}
	tests := []struct {
		m    events.Mapping
		want string
	}{
		{with(func(m *events.Mapping) { m.When = "type ==" }), "mappings[0].when: at 1:8 of the expression: Syntax error"},
		{with(func(m *events.Mapping) { m.When = "true &&\n  nothing" }), "mappings[0].when: at 2:3 of the expression: undeclared reference to 'nothing'"},
		{with(func(m *events.Mapping) { m.When = "type" }), "mappings[0].when: the expression makes string, not bool"},
		{with(func(m *events.Mapping) { m.Subject = "1 + 1" }), "mappings[0].subject: the expression makes int, not string"},
		{with(func(m *events.Mapping) { m.Chain = "true" }), "mappings[0].chain: the expression makes bool, not string"},
		{with(func(m *events.Mapping) { m.Type = "pipelinerun.eaten" }), "mappings[0].type: "},
		{field("colour", "id"), "mappings[0].fields.colour: pipelinerun.finished has no such field"},
		{field("pipelineName.first", "id"), "mappings[0].fields.pipelineName.first: pipelinerun.finished has no such field"},
		{field("outcome", "3"), "mappings[0].fields.outcome: the expression makes int, not string"},
		{field("errors", `data.a.replace("a", data.b)`), "mappings[0].fields.errors: at 1:15 of the expression: replace has to put a literal"},
		{field("errors", `data.a.replace("a", "aaaa")`), "replace has to put a literal"},
		{field("errors", `data.a.replace("", "")`), "replace has to put a literal"},
		{field("errors", `data.a.join(data.b)`), "the separator of join"},
		{field("errors", `"%s%s".format([data.a, data.a])`), "format is not taken"},
	}
	for _, tt := range tests {
		_, wrong := mapping.Compile([]events.Mapping{tt.m})
		if len(wrong) == 0 || !strings.HasPrefix(wrong[0].Error(), tt.want) && !strings.Contains(wrong[0].Error(), tt.want) {
			t.Errorf("got %v\nwant %s", wrong, tt.want)
		}
	}
	if _, wrong := mapping.Compile([]events.Mapping{field("errors", `data.ref.replace("refs/heads/", "")`), field("errors", `data.list.join(", ")`), field("errors", `data.ref.lowerAscii().split("/")[0]`)}); len(wrong) > 0 {
		t.Errorf("refused: %v", wrong)
	}
}

func TestClaimRefuses(t *testing.T) {
	with := func(path, text string) events.Mapping {
		m := builds
		m.Fields = map[string]string{"pipelineName": "data.job", path: text}
		return m
	}
	for name, tt := range map[string]struct {
		m    events.Mapping
		want string
	}{
		"nothing there":     {with("errors", "data.nothing"), "mappings[0]: fields.errors: no such key: nothing"},
		"a wrong kind":      {with("errors", "data.run"), "mappings[0]: "},
		"no subject":        {events.Mapping{When: "true", Type: "ticket.closed", Subject: "subject"}, "mappings[0]: subject: has to make text"},
		"a number for text": {events.Mapping{When: "true", Type: "ticket.closed", Subject: "data.run"}, "mappings[0]: subject: has to make text, not 7"},
		"no JSON":           {with("errors", `data.ok ? dyn(type(data)) : dyn("")`), "mappings[0]: fields.errors: it makes type, which JSON does not have"},
		"too much work":     {with("errors", `string([1,2,3,4,5,6,7,8,9,0].all(a, [1,2,3,4,5,6,7,8,9,0].all(b, [1,2,3,4,5,6,7,8,9,0].all(c, [1,2,3,4,5,6,7,8,9,0].all(d, a + b + c + d >= 0 && data.ok)))))`), "cost"},
	} {
		_, _, err := compiled(t, tt.m).Claim(t.Context(), structured(t, build))
		if err == nil || errors.Is(err, mapping.ErrNone) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
}

// A text that doubles with each step ends at the bound on costs, long before it fills the memory.
func TestGrowthIsBounded(t *testing.T) {
	text := `data.job + data.job`
	for range 6 {
		text = "(" + text + ") + (" + text + ")"
	}
	m := builds
	m.Fields = map[string]string{"pipelineName": text}
	in := structured(t, strings.Replace(build, `"api"`, `"`+strings.Repeat("x", 900_000)+`"`, 1))
	if _, _, err := compiled(t, m).Claim(t.Context(), in); err == nil || !strings.Contains(err.Error(), "cost limit exceeded") {
		t.Errorf("%v", err)
	}
}

func TestEventRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`[]`: "no CloudEvent",
		strings.Replace(build, `"1.0"`, `"0.3"`, 1):                         "specversion is 0.3",
		strings.Replace(build, `"specversion":"1.0",`, ``, 1):               "specversion is <nil>",
		strings.Replace(build, `"id":"b-1"`, `"id":""`, 1):                  "id is missing",
		strings.Replace(build, `"source":"/acme"`, `"source":7`, 1):         "source is missing or no text",
		strings.Replace(build, `"project":"shop"`, `"project":["a"]`, 1):    "project is missing or no text",
		strings.Replace(build, `03:04:05.6Z`, `later`, 1):                   "is no RFC 3339 time",
		strings.Replace(build, `"data":{`, `"data_base64":"e30=","x":{`, 1): "its data is no JSON",
	} {
		if _, err := mapping.Structured([]byte(text)); !errors.Is(err, events.ErrNoCloudEvent) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if _, err := mapping.Binary(map[string]string{"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}, []byte("<a/>")); err == nil || !strings.Contains(err.Error(), "its data is no JSON") {
		t.Errorf("%v", err)
	}
	for typ, want := range map[string]bool{"com.example.a": true, "": false, "dev.cdevents.ticket.eaten.0.2.0": false, "dev.cdeventsx.acme-a.b.0.1.0": false} {
		if mapping.Foreign(typ) != want {
			t.Errorf("Foreign(%q) is %v", typ, !want)
		}
	}
}

// Whatever comes, a claim is made that has the event's id and source, or a reason is given.
func FuzzClaim(f *testing.F) {
	f.Add([]byte(build))
	f.Add([]byte(`{"specversion":"1.0","id":"b","source":"s","type":"com.acme.build.done","data":[1e999,null]}`))
	f.Add([]byte(`{"specversion":"1.0","id":"b","source":"s","type":"x","turn":{},"data":{"run":"","job":{},"ok":"yes"}}`))
	anything := events.Mapping{When: "true", Type: "ticket.created", Subject: "id", Fields: map[string]string{"summary": "data", "creator": "source", "uri": "dyn(extensions)"}}
	set := compiled(f, builds, anything)
	f.Fuzz(func(t *testing.T, text []byte) {
		in, err := mapping.Structured(text)
		if err != nil {
			if !errors.Is(err, events.ErrNoCloudEvent) {
				t.Errorf("%v", err)
			}
			return
		}
		e, body, err := set.Claim(t.Context(), in)
		if err == nil && (e.ID != in.ID || e.Source != in.Source || !json.Valid(body)) {
			t.Errorf("%+v of %s", e, text)
		}
	})
}

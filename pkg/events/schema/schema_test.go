package schema_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cdevents/sdk-go/pkg/api"
	v05 "github.com/cdevents/sdk-go/pkg/api/v05"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/eventstest"
	"github.com/lemnis/lemnis/pkg/events/schema"
)

// valid judges by the schemas and reads with the official SDK.
func valid(t *testing.T, body []byte) {
	t.Helper()
	if err := schema.Validate(body); err != nil {
		t.Errorf("%v in %s", err, body)
	}
	e, err := v05.NewFromJsonBytes(body)
	if err != nil {
		t.Errorf("the official SDK: %v", err)
		return
	}
	again, err := api.AsJsonBytes(e)
	if err != nil {
		t.Error(err)
	}
	if own, err := events.DecodeBody(again); err != nil || own.ID != e.GetId() || own.SubjectID != e.GetSubjectId() || !own.Type.Custom() && string(own.Type) != e.GetType().String() {
		t.Errorf("what the SDK writes is not what was meant: %v, %s", err, again)
	}
}

func TestGoldensAreValid(t *testing.T) {
	files, err := filepath.Glob("../testdata/*.json")
	if err != nil || len(files) < len(events.Catalogue()) {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			valid(t, body)
		})
	}
}

// No content type leaves out a member that the schema demands; what may not be empty in it is
// its author's to fill.
func TestBareEventsMissNothing(t *testing.T) {
	for _, example := range eventstest.Examples() {
		t.Run(example.Type.Short(), func(t *testing.T) {
			entry, _ := events.Lookup(example.Type)
			bare := events.Event{ID: "1", Source: "/s", Type: example.Type, SubjectID: "k", Content: entry.Zero()}
			body, err := bare.AppendBody(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(body); err != nil && !strings.Contains(err.Error(), "must not be empty") && !strings.Contains(err.Error(), "must be one of") {
				t.Error(err)
			}
		})
	}
}

// The official examples decode, are valid, and come back as the same data.
func TestOfficialExamples(t *testing.T) {
	dir := os.Getenv("LEMNIS_CASES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "shared", "cases", "cdevents")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("SKIPPED: the official CDEvents examples are not here; LEMNIS_CASES names the folder that has them")
	}
	if len(files) < 45 {
		t.Errorf("only %d official examples", len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			valid(t, body)
			e, err := events.DecodeBody(body)
			if err != nil {
				t.Fatal(err)
			}
			again, err := e.AppendBody(nil)
			if err != nil {
				t.Fatal(err)
			}
			var want, got any
			if err := errors.Join(json.Unmarshal(body, &want), json.Unmarshal(again, &got)); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(want, got) {
				t.Errorf("recorded %s\nencoded  %s", body, again)
			}
		})
	}
}

func TestErrorsNameThePlace(t *testing.T) {
	edit := func(name string, change func(event map[string]any)) []byte {
		body, err := os.ReadFile(filepath.Join("..", "testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var event map[string]any
		if err := json.Unmarshal(body, &event); err != nil {
			t.Fatal(err)
		}
		change(event)
		out, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	at := func(event map[string]any, path ...string) map[string]any {
		for _, p := range path {
			event = event[p].(map[string]any)
		}
		return event
	}
	link := func(event map[string]any, i int) map[string]any {
		return at(event, "context")["links"].([]any)[i].(map[string]any)
	}
	for name, c := range map[string]struct {
		body []byte
		says string
	}{
		"no JSON":        {[]byte("<xml/>"), "invalid character"},
		"no object":      {[]byte("[]"), "it is no JSON object"},
		"no context":     {[]byte("{}"), "context: is missing or no JSON object"},
		"trailing":       {[]byte("{} {}"), ""},
		"no specversion": {edit("change.merged", func(e map[string]any) { delete(at(e, "context"), "specversion") }), "context.specversion: is missing"},
		"old version":    {edit("change.merged", func(e map[string]any) { at(e, "context")["specversion"] = "0.9.0" }), `context.specversion: CDEvents "0.9.0" is not supported; this is 0.5.1`},
		"no type":        {edit("change.merged", func(e map[string]any) { delete(at(e, "context"), "type") }), "context.type: is missing"},
		"unknown type":   {edit("change.merged", func(e map[string]any) { at(e, "context")["type"] = "dev.cdevents.change.eaten.0.1.0" }), `context.type: neither CDEvents 0.5.1 nor Lemnis has a type "dev.cdevents.change.eaten.0.1.0"`},
		"old type":       {edit("change.merged", func(e map[string]any) { at(e, "context")["type"] = "dev.cdevents.change.merged.0.1.0" }), `context.type: must be "dev.cdevents.change.merged.0.3.0", not "dev.cdevents.change.merged.0.1.0"`},
		"custom version": {edit("backlog.ranked", func(e map[string]any) { at(e, "context")["type"] = "dev.cdeventsx.lemnis-backlog.ranked.0.10.0" }), "context.type: "},
		"missing":        {edit("service.deployed", func(e map[string]any) { delete(at(e, "subject", "content"), "artifactId") }), "subject.content.artifactId: is missing"},
		"enumeration":    {edit("testsuiterun.finished", func(e map[string]any) { at(e, "subject", "content")["outcome"] = "meh" }), `subject.content.outcome: must be one of "success", "failure", "cancel", "error", not "meh"`},
		"type":           {edit("ticket.created", func(e map[string]any) { at(e, "subject", "content")["labels"] = 7 }), "subject.content.labels: must be a JSON array, not number"},
		"empty":          {edit("ticket.created", func(e map[string]any) { at(e, "context")["source"] = "" }), "context.source: must not be empty"},
		"extra":          {edit("ticket.created", func(e map[string]any) { at(e, "subject")["colour"] = "red" }), `subject: must not have "colour"`},
		"null tags":      {edit("ticket.created", func(e map[string]any) { link(e, 0)["tags"] = nil }), "context.links[0].tags: must be a JSON object, not null"},
		"relation":       {edit("ticket.created", func(e map[string]any) { delete(link(e, 1), "target") }), "context.links[1].target: is missing"},
		"two":            {edit("ticket.created", func(e map[string]any) { delete(at(e, "context"), "id"); delete(at(e, "subject"), "id") }), "context.id: is missing (and 1 more)"},
		"custom data":    {edit("ticket.created", func(e map[string]any) { e["customData"] = 7 }), "customData: must be a JSON "},
	} {
		t.Run(name, func(t *testing.T) {
			err := schema.Validate(c.body)
			if !errors.Is(err, schema.ErrInvalid) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v\nwant %s", err, c.says)
			}
		})
	}
}

func BenchmarkValidate(b *testing.B) {
	body, err := os.ReadFile("../testdata/ticket.created.json")
	if err != nil {
		b.Fatal(err)
	}
	var small bytes.Buffer
	if err := json.Compact(&small, body); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := schema.Validate(small.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}

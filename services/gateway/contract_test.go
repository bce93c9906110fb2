package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
)

// Every schema that the AsyncAPI document refers to is served beside it.
func TestContractIsServed(t *testing.T) {
	w := newWorld(t)
	var document struct {
		AsyncAPI   string `json:"asyncapi"`
		Components struct {
			Messages map[string]struct {
				Name    events.Type
				Payload struct {
					Ref string `json:"$ref"`
				}
			}
		}
	}
	w.get("/asyncapi.json", &document)
	if document.AsyncAPI != "3.0.0" || len(document.Components.Messages) != len(events.Catalogue()) {
		t.Fatalf("AsyncAPI %s with %d messages", document.AsyncAPI, len(document.Components.Messages))
	}
	for short, m := range document.Components.Messages {
		path, ok := strings.CutPrefix(m.Payload.Ref, ".")
		if !ok {
			t.Fatalf("%s refers to %s", short, m.Payload.Ref)
		}
		var schema struct{ Title string }
		w.get(path, &schema)
		if schema.Title != short {
			t.Errorf("%s is the schema of %s", path, schema.Title)
		}
	}
	var byShort struct{ Title string }
	if w.get("/schemas/change.merged", &byShort); byShort.Title != "change.merged" {
		t.Errorf("the schema of %s", byShort.Title)
	}
	var list struct {
		Schemas []struct{ Type, Schema string }
	}
	if w.get("/schemas/", &list); len(list.Schemas) != len(events.Catalogue()) {
		t.Errorf("%d schemas are listed", len(list.Schemas))
	}
	resp, body := w.send(http.MethodGet, "/schemas/change.eaten.json", "")
	var problem struct{ Detail string }
	if err := json.Unmarshal([]byte(body), &problem); err != nil || resp.StatusCode != http.StatusNotFound || !strings.Contains(problem.Detail, "change.eaten") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

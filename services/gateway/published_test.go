package gateway_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/eventstest"
)

// publishedTypes are those of CDEvents 0.5.1.
const publishedTypes = 45

// Every type that CDEvents has published is accepted over HTTP, and found again with equal data.
func TestEveryPublishedType(t *testing.T) {
	w := newWorld(t)
	seen := 0
	for _, e := range eventstest.Examples() {
		if !strings.HasPrefix(string(e.Type), "dev.cdevents.") {
			continue
		}
		seen++
		w.foundAgain(t, "example of "+e.Type.Short(), []byte(body(t, e)))
	}
	if seen != publishedTypes {
		t.Errorf("%d types, want %d", seen, publishedTypes)
	}
}

// The examples that CDEvents publishes, where they are at hand: in $LEMNIS_SHARED/cases/cdevents, or in a folder "shared"
// beside the repository.
func TestPublishedExamples(t *testing.T) {
	folder := sharedCases()
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(files) == 0 {
		t.Skip("SKIPPED: the examples that CDEvents publishes are not here; set LEMNIS_SHARED to the folder that holds cases/cdevents")
	}
	w := newWorld(t)
	types := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		types[w.foundAgain(t, filepath.Base(file), withOwnID(t, text, filepath.Base(file)))] = true
	}
	if len(types) != publishedTypes {
		t.Errorf("%d types in %d files, want %d", len(types), len(files), publishedTypes)
	}
}

// withOwnID gives an example an id of its own: the published ones share one id and source, by which the second would be known
// as the first said again.
func withOwnID(t *testing.T, cdevent []byte, id string) []byte {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(cdevent, &all); err != nil {
		t.Fatal(err)
	}
	all["context"].(map[string]any)["id"] = id
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func sharedCases() string {
	if dir := os.Getenv("LEMNIS_SHARED"); dir != "" {
		return filepath.Join(dir, "cases", "cdevents")
	}
	dir, err := os.Getwd()
	for err == nil && filepath.Dir(dir) != dir {
		folder := filepath.Join(dir, "shared", "cases", "cdevents")
		if info, err := os.Stat(folder); err == nil && info.IsDir() {
			return folder
		}
		dir = filepath.Dir(dir)
	}
	return ""
}

// foundAgain posts a CDEvent in a CloudEvent, asks for its type, and holds the data against what was sent.
func (w *world) foundAgain(t *testing.T, name string, cdevent []byte) string {
	t.Helper()
	var head struct {
		Context struct{ ID, Source, Type string }
	}
	if err := json.Unmarshal(cdevent, &head); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	resp, answer := w.send(http.MethodPost, "/events", string(cdevent), "Content-Type", "application/json", "ce-specversion", "1.0",
		"ce-id", head.Context.ID, "ce-source", head.Context.Source, "ce-type", head.Context.Type, "ce-project", "shop")
	var r receipt
	if err := json.Unmarshal([]byte(answer), &r); err != nil || resp.StatusCode != http.StatusAccepted {
		t.Errorf("%s: %d %s", name, resp.StatusCode, answer)
		return head.Context.Type
	}
	var p page
	w.get("/events?project=shop&type="+url.QueryEscape(head.Context.Type), &p)
	for _, e := range p.Events {
		if e["id"] != head.Context.ID || e["source"] != head.Context.Source {
			continue
		}
		var sent any
		if err := json.Unmarshal(cdevent, &sent); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(sent, e["data"]) || e["type"] != head.Context.Type || e["kind"] != events.KindName(events.Claim) {
			t.Errorf("%s came back as %v", name, e)
		}
		return head.Context.Type
	}
	t.Errorf("%s is not found again", name)
	return head.Context.Type
}

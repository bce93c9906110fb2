package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	specifications "github.com/asyncapi/spec-json-schemas/v6"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/lemnis/lemnis/pkg/events"
)

const source = "../../../pkg/events"

// The official schema of AsyncAPI 3 takes the document, and refuses one with a member of another type.
func TestAsyncAPI(t *testing.T) {
	official, err := specifications.Get(asyncAPIVersion)
	if err != nil || official == nil {
		t.Fatalf("no schema of AsyncAPI %s: %v", asyncAPIVersion, err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(official))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("urn:asyncapi", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("urn:asyncapi")
	if err != nil {
		t.Fatal(err)
	}
	said, err := readComments(source)
	if err != nil {
		t.Fatal(err)
	}
	text, err := render(asyncAPI(said))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(read(t, text)); err != nil {
		t.Errorf("%v", err)
	}
	for _, change := range []func(map[string]any){
		func(d map[string]any) { delete(d, "info") },
		func(d map[string]any) { d["channels"] = []any{} },
		func(d map[string]any) {
			d["operations"].(map[string]any)["receive.http"].(map[string]any)["action"] = "shout"
		},
	} {
		changed := read(t, text).(map[string]any)
		change(changed)
		if s.Validate(changed) == nil {
			t.Error("a document that is none of AsyncAPI is taken")
		}
	}
}

func read(t *testing.T, text []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Files that are written are those that are checked in, and a schema outlives its type by no run.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "schemas"), 0o755); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(dir, "schemas", "dev.cdeventsx.lemnis-thing.forgotten.0.1.0.json")
	if err := os.WriteFile(stale, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(dir, source); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); err == nil {
		t.Error("a schema without a type is left")
	}
	files, err := filepath.Glob(filepath.Join(dir, "schemas", "*.json"))
	if err != nil || len(files) != len(events.Catalogue()) {
		t.Errorf("%d schemas of %d types, %v", len(files), len(events.Catalogue()), err)
	}
	for _, name := range append(files, filepath.Join(dir, "asyncapi.json")) {
		written, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		relative, _ := filepath.Rel(dir, name)
		there, err := os.ReadFile(filepath.Join(source, "contract", relative))
		if err != nil || !bytes.Equal(written, there) {
			t.Errorf("%s is out of date: run make generated (%v)", relative, err)
		}
	}
}

// What the source says of a field stands in the schema.
func TestComments(t *testing.T) {
	said, err := readComments(source)
	if err != nil {
		t.Fatal(err)
	}
	entry, _ := events.Lookup(events.TypeOf(events.ChangeReviewed{}))
	text, err := render(eventSchema(entry, said))
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Defs map[string]struct {
			Properties map[string]struct {
				Description string
				Enum        []string
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	verdict := s.Defs["Review"].Properties["verdict"]
	if verdict.Description != "approved, changes-requested, commented" || len(verdict.Enum) != 3 {
		t.Errorf("%+v", verdict)
	}
}

package contract_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/contract"
)

func compile(t *testing.T, of events.Type) *jsonschema.Schema {
	t.Helper()
	text, ok := contract.Schema(of)
	if !ok {
		t.Fatalf("%s has no schema", of)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("urn:x", read(t, text)); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("urn:x")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func read(t *testing.T, text []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What was ever recorded of a type fits its schema; without a member that is demanded, or with one of another JSON type, it
// does not.
func TestGoldensFitAndOthersDoNot(t *testing.T) {
	for _, entry := range events.Catalogue() {
		t.Run(entry.Type.Short(), func(t *testing.T) {
			s := compile(t, entry.Type)
			files, err := filepath.Glob(filepath.Join("..", "testdata", entry.Type.Short()+"*.json"))
			if err != nil || len(files) == 0 {
				t.Fatalf("%d golden files, %v", len(files), err)
			}
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Validate(read(t, text)); err != nil {
					t.Errorf("%s: %v", file, err)
				}
			}
			text, err := os.ReadFile(files[len(files)-1]) // the one with the most fields
			if err != nil {
				t.Fatal(err)
			}
			missing, mistyped := refusals(t, s, text)
			if missing < 7 || mistyped < 10 { // those of the envelope alone
				t.Errorf("refused without %d members and with %d members of another type", missing, mistyped)
			}
		})
	}
}

// refusals changes an event at each of its members, one at a time, and counts those that it may not do without. Each is
// refused with a value of another type.
func refusals(t *testing.T, s *jsonschema.Schema, text []byte) (missing, mistyped int) {
	for _, path := range members(nil, read(t, text)) {
		where := strings.Join(path, "/")
		without, last := parent(read(t, text), path)
		delete(without, last)
		if s.Validate(rootOf) != nil {
			missing++
		}
		changed, last := parent(read(t, text), path)
		changed[last] = other(changed[last])
		switch err := s.Validate(rootOf); {
		case err != nil:
			mistyped++
		case !strings.HasPrefix(where, "context/links/") && where != "customData" && !strings.Contains(where, "/tags/"):
			t.Errorf("%s may be %v", where, changed[last])
		}
	}
	return missing, mistyped
}

var rootOf any // the event that parent walked last

// parent walks to the object that has the last name of a path.
func parent(root any, path []string) (map[string]any, string) {
	rootOf = root
	for _, p := range path[:len(path)-1] {
		root = root.(map[string]any)[p]
	}
	return root.(map[string]any), path[len(path)-1]
}

// members are the paths of all members that objects within objects have.
func members(path []string, v any) (all [][]string) {
	object, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	for name, value := range object {
		p := append(append([]string{}, path...), name)
		all = append(append(all, p), members(p, value)...)
	}
	return all
}

// other is a value of another JSON type.
func other(v any) any {
	if _, ok := v.(bool); ok {
		return "yes"
	}
	return true
}

// Every reference of the AsyncAPI document leads somewhere: within it, or to a schema.
func TestReferencesResolve(t *testing.T) {
	document := read(t, contract.AsyncAPI())
	refs := 0
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for name, e := range v {
				if ref, ok := e.(string); ok && name == "$ref" {
					refs++
					if err := resolve(document, ref); err != nil {
						t.Error(err)
					}
				}
				walk(e)
			}
		}
	}
	walk(document)
	if refs < 4*len(events.Catalogue()) {
		t.Errorf("only %d references", refs)
	}
}

func resolve(document any, ref string) error {
	if name, ok := strings.CutPrefix(ref, "./schemas/"); ok {
		if _, known := contract.Schema(events.Type(strings.TrimSuffix(name, ".json"))); !known {
			return fmt.Errorf("%s is no schema", ref)
		}
		return nil
	}
	path, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return fmt.Errorf("%s leads out of the document", ref)
	}
	for p := range strings.SplitSeq(path, "/") {
		object, _ := document.(map[string]any)
		if document = object[p]; document == nil {
			return fmt.Errorf("%s leads to nothing", ref)
		}
	}
	return nil
}

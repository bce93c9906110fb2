package events_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/eventstest"
)

var update = flag.Bool("update", false, "write a golden file for each example that has none; recorded ones are never changed")

// goldens are the recorded bodies of a type: <short>.json, and <short>_2.json and on for what
// its content grew later.
func goldens(t testing.TB, typ events.Type) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", typ.Short()+"*.json"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, file := range files {
		if rest := strings.TrimPrefix(filepath.Base(file), typ.Short()); rest[0] != '.' && rest[0] != '_' {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out[file] = data
	}
	return out
}

func allGoldens(t testing.TB) map[string][]byte {
	all := map[string][]byte{}
	for _, entry := range events.Catalogue() {
		for file, data := range goldens(t, entry.Type) {
			all[file] = data
		}
	}
	return all
}

// sameJSON compares JSON as data; numbers keep every digit.
func sameJSON(t testing.TB, a, b []byte) bool {
	t.Helper()
	read := func(data []byte) (v any) {
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		return v
	}
	return reflect.DeepEqual(read(a), read(b))
}

// What was ever recorded decodes, and nothing of it is lost.
func TestGoldensDecodeForEver(t *testing.T) {
	for file, data := range allGoldens(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			e, err := events.DecodeBody(data)
			if err != nil {
				t.Fatal(err)
			}
			again, err := e.AppendBody(nil)
			if err != nil {
				t.Fatal(err)
			}
			if !sameJSON(t, data, again) {
				t.Errorf("recorded %s\nencoded  %s", data, again)
			}
		})
	}
}

// Each type has a golden file with every field that its content has today.
func TestGoldensAreComplete(t *testing.T) {
	for _, e := range eventstest.Examples() {
		body, err := e.AppendBody(nil)
		if err != nil {
			t.Fatal(err)
		}
		recorded := goldens(t, e.Type)
		found := false
		for _, data := range recorded {
			found = found || sameJSON(t, data, body)
		}
		if found {
			continue
		}
		file := filepath.Join("testdata", e.Type.Short()+".json")
		if n := len(recorded); n > 0 {
			file = filepath.Join("testdata", fmt.Sprintf("%s_%d.json", e.Type.Short(), n+1))
		}
		if !*update {
			t.Errorf("no golden file has all of today's fields of %s: run `go test -run Goldens -update .` to record %s", e.Type, file)
			continue
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, body, "", "  "); err != nil {
			t.Fatal(err)
		}
		pretty.WriteByte('\n')
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A golden file of a type that the catalogue has lost would be read by no test.
func TestEveryGoldenHasItsType(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if known := allGoldens(t); len(files) != len(known) {
		for _, file := range files {
			if known[file] == nil {
				t.Errorf("%s belongs to no type of the catalogue", file)
			}
		}
	}
}

// compact removes insignificant space; JSON that is not there stays so.
func compact(t testing.TB, raw json.RawMessage) json.RawMessage {
	t.Helper()
	if raw == nil {
		return nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

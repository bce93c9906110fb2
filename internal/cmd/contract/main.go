// Command contract writes what package events/contract embeds: a JSON Schema (2020-12) for each event type and an
// AsyncAPI 3 document, made from the Go types of the catalogue and their comments. It is run by `go generate`, in the
// folder that it writes to.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"

	"github.com/lemnis/lemnis/pkg/events"
)

func main() {
	out := flag.String("o", ".", "folder to write to")
	source := flag.String("source", "..", "folder of package events, whose comments become descriptions")
	flag.Parse()
	if err := run(*out, *source); err != nil {
		fmt.Fprintln(os.Stderr, "contract:", err)
		os.Exit(1)
	}
}

func run(out, source string) error {
	said, err := readComments(source)
	if err != nil {
		return err
	}
	files, err := contract(said)
	if err != nil {
		return err
	}
	return write(out, files)
}

// contract are all files, by their path.
func contract(said comments) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, entry := range events.Catalogue() {
		text, err := render(eventSchema(entry, said))
		if err != nil {
			return nil, err
		}
		files[schemaFile(entry.Type)] = text
	}
	text, err := render(asyncAPI(said))
	if err != nil {
		return nil, err
	}
	files["asyncapi.json"] = text
	return files, nil
}

func schemaFile(t events.Type) string { return "schemas/" + string(t) + ".json" }

// render encodes; members are sorted, so that the same types give the same bytes.
func render(value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(value); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return b.Bytes(), nil
}

// write leaves only these files in the folder of schemas, so that none outlives its type.
func write(dir string, files map[string][]byte) error {
	old, err := filepath.Glob(filepath.Join(dir, "schemas", "*.json"))
	if err != nil {
		return err
	}
	for _, file := range old {
		if files["schemas/"+filepath.Base(file)] == nil {
			if err := os.Remove(file); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "schemas"), 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil { //nolint:gosec // checked in, for everybody to read
			return err
		}
	}
	return nil
}

// contentName is the Go type of an event's content.
func contentName(entry events.Entry) string { return reflect.TypeOf(entry.Zero()).Name() }

package project

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"

	"github.com/lemnis/lemnis/internal/condition"
	"github.com/lemnis/lemnis/internal/document"
	"github.com/lemnis/lemnis/internal/mapping"
	"github.com/lemnis/lemnis/pkg/events"
)

var format = document.Format{
	Empty: "project: <name>", One: "project",
	// A check that nothing produces evidence for would be passed unseen, so it is refused.
	NotYet: map[string]string{
		"review.codeowners":    "nothing reads it yet",
		"review.pair-counts":   "nothing reads it yet",
		"review.red-green":     "nothing produces evidence for it yet",
		"objectives[].latency": "nothing measures it against an objective yet",
	},
}

// Parse reads a configuration. name is what errors call the file. The error is of type [document.Errors].
func Parse(name string, text []byte) (events.Project, error) {
	p := events.DefaultProject("")
	d := format.Read(name, text, &p)
	if !d.Unreadable() {
		validate(d, p)
	}
	if err := d.Err(); err != nil {
		return events.Project{}, err
	}
	return p, nil
}

// Encode writes a configuration as Parse reads it, but that what is zero comes back as its
// default. The revision is not part of it.
func Encode(p events.Project) ([]byte, error) {
	encoded, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode project %s: %w", p.Name, err)
	}
	text, err := yaml.JSONToYAML(encoded)
	if err != nil {
		return nil, fmt.Errorf("encode project %s: %w", p.Name, err)
	}
	// The library loses line breaks at the end of a text. JSON is YAML too, less pleasant to read.
	if back, err := Parse("", text); err == nil && sameJSON(back, encoded) {
		return text, nil
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, encoded, "", "  "); err != nil {
		return nil, fmt.Errorf("encode project %s: %w", p.Name, err)
	}
	return append(indented.Bytes(), '\n'), nil
}

func sameJSON(p events.Project, encoded []byte) bool {
	again, err := json.Marshal(p)
	return err == nil && bytes.Equal(again, encoded)
}

// validate puts what is wrong with the whole where it stands.
func validate(d *document.Document, p events.Project) {
	var invalid events.InvalidProject
	_ = errors.As(p.Validate(), &invalid)
	if len(invalid) == 0 {
		_, wrong := mapping.Compile(p.Mappings)
		for _, e := range append(wrong, condition.Check(p)...) {
			invalid = append(invalid, events.FieldError{Field: e.Field, Reason: e.At()})
		}
	}
	if len(invalid) > 0 && !d.Has("project") {
		d.Refuse("project", "is missing; the file has to say which project it configures")
	}
	for _, f := range invalid {
		d.Refuse(f.Field, "%s", f.Reason)
	}
}

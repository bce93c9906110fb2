package project

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/lemnis/lemnis/internal/mapping"
	"github.com/lemnis/lemnis/pkg/events"
)

const mostBytes = 64 << 10 // of a file; the parser's time grows faster than its input

type position struct{ line, column int }

// Parse reads a configuration. name is what errors call the file. The error is of type [Errors].
func Parse(name string, text []byte) (events.Project, error) {
	d := &decoder{file: name, at: map[string]position{"": {1, 1}}}
	p := events.DefaultProject("")
	if root, ok := d.root(text); ok {
		d.value("", root, reflect.ValueOf(&p).Elem())
		d.validate(p)
	}
	if len(d.errors) > 0 {
		slices.SortStableFunc(d.errors, func(a, b Error) int {
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return a.Column - b.Column
		})
		return events.Project{}, d.errors
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

type decoder struct {
	file   string
	at     map[string]position // where a field stands
	errors Errors
}

func (d *decoder) add(at position, field, format string, args ...any) {
	d.errors = append(d.errors, Error{File: d.file, Line: at.line, Column: at.column, Field: field, Reason: fmt.Sprintf(format, args...)})
}

// root is the one document of the text.
func (d *decoder) root(text []byte) (ast.Node, bool) {
	start := position{1, 1}
	if len(text) > mostBytes {
		d.add(start, "", "the file has %d bytes; %d at most", len(text), mostBytes)
		return nil, false
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) && syntax.Token != nil && syntax.Token.Position != nil {
			d.add(position{syntax.Token.Position.Line, syntax.Token.Position.Column}, "", "no YAML: %s", syntax.Message)
		} else {
			d.add(start, "", "no YAML: %s", err)
		}
		return nil, false
	}
	var docs []*ast.DocumentNode
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			docs = append(docs, doc)
		}
	}
	switch len(docs) {
	case 0:
		d.add(start, "", "the file is empty; it has to begin with \"project: <name>\"")
		return nil, false
	case 1:
		return docs[0].Body, true
	}
	d.add(place(docs[1].Body), "", "the file holds a second document; one project a file")
	return nil, false
}

// validate puts what is wrong with the whole where it stands. A field that was refused already is not told twice.
func (d *decoder) validate(p events.Project) {
	var invalid events.InvalidProject
	_ = errors.As(p.Validate(), &invalid)
	if len(invalid) == 0 {
		_, wrong := mapping.Compile(p.Mappings)
		for _, e := range wrong {
			invalid = append(invalid, events.FieldError{Field: e.Field, Reason: e.At()})
		}
	}
	if len(invalid) == 0 {
		return
	}
	if _, ok := d.at["project"]; !ok {
		d.add(position{1, 1}, "project", "is missing; the file has to say which project it configures")
	}
	told := map[string]bool{"project": len(d.errors) > 0 && d.at["project"] == position{}}
	for _, e := range d.errors {
		told[e.Field] = true
	}
	for _, f := range invalid {
		if !told[f.Field] {
			d.add(d.nearest(f.Field), f.Field, "%s", f.Reason)
		}
	}
}

// nearest is where a field stands, or the closest one around it.
func (d *decoder) nearest(field string) position {
	for {
		if at, ok := d.at[field]; ok {
			return at
		}
		cut := strings.LastIndexAny(field, ".[")
		if cut < 0 {
			return d.at[""]
		}
		field = field[:cut]
	}
}

// place is where a node begins. A mapping's own token is its first ':', so its first key stands for it.
func place(n ast.Node) position {
	switch m := n.(type) {
	case *ast.MappingNode:
		if len(m.Values) > 0 && !m.IsFlowStyle {
			return place(m.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return place(m.Key)
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return position{t.Position.Line, t.Position.Column}
	}
	return position{1, 1}
}

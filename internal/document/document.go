package document

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/lemnis/lemnis/internal/excerpt"
)

// Bounds of a file, and of what is said about it: files come from anybody, and what is said ends up in events.
const (
	MostBytes  = 64 << 10 // the parser's time grows faster than its input
	mostNested = 50       // with that of what is nested in it, which takes it GiB of memory
	mostErrors = 50
	mostSaid   = 500 // bytes of one error's field, and of its reason
)

// What begins the text of some editors, and is none of it.
const byteOrderMark = "\uFEFF"

// Format is what a kind of file is like, beyond the Go type that it is read into.
type Format struct {
	Empty  string            // what an empty file is told it has to begin with
	One    string            // what a file holds one of: "project"
	NotYet map[string]string // fields that are foreseen and not taken yet, by path without numbers, with the reason
}

// Document is a file that was read, with the places of its fields and what is wrong with it.
type Document struct {
	format Format
	file   string
	at     map[string]position // where a field stands
	errors Errors
}

type position struct{ line, column int }

// Read reads the one YAML document of a text into a struct, whose json tags name the fields; what the text does not say
// stays as it is. file is what errors call it. It never fails: [Document.Err] says what is wrong.
func (f Format) Read(file string, text []byte, into any) *Document {
	d := &Document{format: f, file: file, at: map[string]position{"": {1, 1}}}
	if root, ok := d.root(text); ok {
		d.value("", root, reflect.ValueOf(into).Elem())
	}
	return d
}

// Err is all that is wrong, of type [Errors] and in the order of the file; nil when nothing is. Of very many only the first are told.
func (d *Document) Err() error {
	if len(d.errors) == 0 {
		return nil
	}
	slices.SortStableFunc(d.errors, func(a, b Error) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	if more := len(d.errors) - mostErrors; more > 0 {
		next := d.errors[mostErrors]
		return append(slices.Clip(d.errors[:mostErrors]), Error{File: d.file, Line: next.Line, Column: next.Column, Reason: fmt.Sprintf("from here on there are %d more mistakes", more)})
	}
	return d.errors
}

// Has says whether the file names a field, by its path: "environments[1].gate.coverage".
func (d *Document) Has(field string) bool {
	_, ok := d.at[field]
	return ok
}

// Unreadable says whether there are no fields to look at: no YAML, nothing, or something else than fields.
func (d *Document) Unreadable() bool {
	return slices.ContainsFunc(d.errors, func(e Error) bool { return e.Field == "" })
}

// Refuse adds what is wrong with a field, at the place where it stands or that of the closest one around it. A
// field that was refused already is not told twice.
func (d *Document) Refuse(field, format string, args ...any) {
	if !slices.ContainsFunc(d.errors, func(e Error) bool { return e.Field == field }) {
		d.add(d.nearest(field), field, format, args...)
	}
}

func (d *Document) add(at position, field, format string, args ...any) {
	d.errors = append(d.errors, Error{File: d.file, Line: at.line, Column: at.column, Field: short(field), Reason: short(fmt.Sprintf(format, args...))})
}

func short(text string) string {
	return excerpt.Of(text, mostSaid)
}

// root is the one document of the text.
func (d *Document) root(text []byte) (ast.Node, bool) {
	start := position{1, 1}
	if len(text) > MostBytes {
		d.add(start, "", "the file has %d bytes; %d at most", len(text), MostBytes)
		return nil, false
	}
	tokens := lexer.Tokenize(strings.TrimPrefix(string(text), byteOrderMark))
	if deep := tooDeep(tokens); deep != nil {
		d.add(position{deep.Position.Line, deep.Position.Column}, "", "is nested more than %d deep", mostNested)
		return nil, false
	}
	file, err := parser.Parse(tokens, 0)
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
		d.add(start, "", "the file is empty; it has to begin with %q", d.format.Empty)
		return nil, false
	case 1:
		return docs[0].Body, true
	}
	d.add(place(docs[1].Body), "", "the file holds a second document; one %s a file", d.format.One)
	return nil, false
}

// tooDeep is where a text is nested too deep within one line, or in brackets; what is nested by indentation is bounded by the text's length.
func tooDeep(tokens token.Tokens) *token.Token {
	brackets, entries, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position != nil && t.Position.Line != line {
			entries, line = 0, t.Position.Line
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			brackets++
		case token.SequenceEndType, token.MappingEndType:
			brackets--
		case token.SequenceEntryType, token.MappingKeyType:
			entries++
		}
		if brackets > mostNested || entries > mostNested {
			return t
		}
	}
	return nil
}

// nearest is where a field stands, or the closest one around it.
func (d *Document) nearest(field string) position {
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

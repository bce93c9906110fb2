package document

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
)

// Note is what the Go types do not say of a field.
type Note struct {
	Text string
	Enum []string // the values that it may have, when these are words
}

// Schema is what the JSON Schema of a file says beyond the Go types.
type Schema struct {
	Title    string
	Required []string        // members of the whole that have no default
	Notes    map[string]Note // of every field, by its path without numbers; ".*" stands for a free key
	// Keys are those that a mapping by another type than string may have.
	Keys func(reflect.Type) []string
	// Texts are the types that write themselves as text, with what else the schema says of them.
	Texts map[reflect.Type]map[string]any
}

// Of is the JSON Schema (2020-12) of a type, as indented JSON. JSON sorts the members, so the same types give the same bytes.
func (s Schema) Of(t reflect.Type) ([]byte, error) {
	root := s.describe("", t)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = s.Title
	root["required"] = s.Required
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the schema: %w", err)
	}
	return append(text, '\n'), nil
}

func (s Schema) describe(path string, t reflect.Type) map[string]any {
	out := map[string]any{}
	if n, ok := s.Notes[path]; ok {
		out["description"] = n.Text
		if n.Enum != nil {
			out["enum"] = n.Enum
		}
	}
	if more, ok := s.Texts[t]; ok {
		out["type"] = "string"
		for name, value := range more {
			out[name] = value
		}
		return out
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.describe(path, t.Elem())
	case reflect.Struct:
		members, required := map[string]any{}, []string{}
		for _, f := range fields(t) {
			members[f.name] = s.describe(join(path, f.name), t.Field(f.index).Type)
			if !f.optional && t.Field(f.index).Type.Kind() == reflect.String {
				required = append(required, f.name)
			}
		}
		out["type"], out["properties"], out["additionalProperties"] = "object", members, false
		if len(required) > 0 {
			out["required"] = required
		}
	case reflect.Map:
		if t.Key() == reflect.TypeFor[string]() {
			out["type"], out["additionalProperties"] = "object", s.describe(path+".*", t.Elem())
			return out
		}
		members := map[string]any{}
		for _, key := range s.Keys(t.Key()) {
			members[key] = s.describe(join(path, key), t.Elem())
		}
		out["type"], out["properties"], out["additionalProperties"] = "object", members, false
	case reflect.Slice:
		out["type"], out["items"] = "array", s.describe(path+"[]", t.Elem())
	case reflect.String:
		out["type"] = "string"
	case reflect.Bool:
		out["type"] = "boolean"
	case reflect.Float64:
		out["type"], out["minimum"] = "number", 0
	case reflect.Int:
		out["type"], out["minimum"] = "integer", 0
	default:
		panic(fmt.Sprintf("document: %s is of kind %s, which no file has", path, t.Kind()))
	}
	return out
}

// Amiss lists the fields of a type that no note describes, and the notes that describe none, for the tests of those who keep notes.
func (s Schema) Amiss(t reflect.Type) []string {
	seen := map[string]bool{}
	s.walk("", t, seen)
	var amiss []string
	for path := range seen {
		if s.Notes[path].Text == "" {
			amiss = append(amiss, path+" is not described")
		}
	}
	for path := range s.Notes {
		if !seen[path] {
			amiss = append(amiss, path+" is described, and is not there")
		}
	}
	slices.Sort(amiss)
	return amiss
}

func (s Schema) walk(path string, t reflect.Type, seen map[string]bool) {
	if _, text := s.Texts[t]; text {
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		s.walk(path, t.Elem(), seen)
	case reflect.Slice:
		s.walk(path+"[]", t.Elem(), seen)
	case reflect.Map:
		if t.Key() == reflect.TypeFor[string]() { // the keys of the others are words of their own
			seen[path+".*"] = true
			s.walk(path+".*", t.Elem(), seen)
		}
	case reflect.Struct:
		for _, f := range fields(t) {
			at := join(path, f.name)
			seen[at] = true
			s.walk(at, t.Field(f.index).Type, seen)
		}
	}
}

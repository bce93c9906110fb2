package events

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// shape is how a content type is read without encoding/json: a content has few members, most of them strings, and
// encoding/json passes over each twice. Whatever is out of the ordinary is left to it, in whole. A nil shape reads nothing.
type shape map[string]member

// member is a field, by the name that it has in JSON.
type member struct {
	index []int
	text  bool // a string that no method of its own reads
}

// shapeOf is nil for a type that only encoding/json knows how to read.
func shapeOf(t reflect.Type) shape {
	if t.Kind() != reflect.Struct || readsItself(t) {
		return nil
	}
	s := shape{}
	if !s.add(t, nil) {
		return nil
	}
	return s
}

func (s shape) add(t reflect.Type, at []int) bool {
	for i := range t.NumField() {
		f := t.Field(i)
		index := slices.Concat(at, []int{i})
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case f.Anonymous && name == "":
			if f.Type.Kind() != reflect.Struct || readsItself(f.Type) || !s.add(f.Type, index) {
				return false
			}
			continue
		case !f.IsExported() || tag == "-":
			continue
		case strings.Contains(options, "string"):
			return false
		case name == "":
			name = f.Name
		}
		if _, twice := s[name]; twice { // which of them counts is encoding/json's to say
			return false
		}
		s[name] = member{index: index, text: f.Type.Kind() == reflect.String && !readsItself(f.Type)}
	}
	return true
}

func readsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// read reads an object into a value of the shape's type; false when encoding/json has to, anew.
func (s shape) read(object []byte, to reflect.Value) bool {
	return s != nil && members(object, func(name, value []byte) error {
		m, known := s[string(name)]
		if !known { // it may be one of another case, which encoding/json takes too
			return errSyntax
		}
		f := to.FieldByIndex(m.index)
		if n := len(value); m.text && n >= 2 && value[0] == '"' && plainText(value[1:n-1]) {
			f.SetString(string(value[1 : n-1]))
			return nil
		}
		return json.Unmarshal(value, f.Addr().Interface())
	}) == nil
}

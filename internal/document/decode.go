package document

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/lemnis/lemnis/internal/spelling"
)

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// value decodes a node into a Go value, which keeps what it holds where the node says nothing.
func (d *Document) value(field string, n ast.Node, v reflect.Value) {
	at := place(n)
	if field != "" {
		d.at[field] = at
	}
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode, *ast.DirectiveNode:
		d.add(at, field, "anchors, aliases, merges and tags are not taken: write it out")
		return
	case *ast.NullNode:
		d.add(at, field, "has no value; leave the line out to keep the default")
		return
	}
	if v.Kind() == reflect.Pointer {
		fresh := reflect.New(v.Type().Elem())
		d.value(field, n, fresh.Elem())
		v.Set(fresh)
		return
	}
	if reflect.PointerTo(v.Type()).Implements(unmarshaler) {
		d.text(field, n, v)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(field, n, v)
	case reflect.Map:
		d.mapping(field, n, v)
	case reflect.Slice:
		d.sequence(field, n, v)
	case reflect.String:
		if s, ok := plain(n); ok {
			v.SetString(s)
		} else {
			d.mismatch(field, n, "text")
		}
	case reflect.Float64:
		d.number(field, n, v)
	case reflect.Int:
		d.integer(field, n, v)
	case reflect.Bool:
		if b, ok := n.(*ast.BoolNode); ok {
			v.SetBool(b.Value)
		} else {
			d.mismatch(field, n, "true or false")
		}
	default:
		panic(fmt.Sprintf("document: %s is of kind %s, which no file has", field, v.Kind()))
	}
}

// plain is the text of a string node.
func plain(n ast.Node) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return s.Value.Value, true
	}
	return "", false
}

func (d *Document) mismatch(field string, n ast.Node, want string) {
	reason := fmt.Sprintf("has to be %s, not %s", want, kindOf(n))
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		if want == "text" {
			reason += fmt.Sprintf("; put it into quotes: %q", n.GetToken().Value)
		}
	}
	d.add(place(n), field, "%s", reason)
}

func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "fields"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.BoolNode:
		return "true or false"
	}
	return "a number"
}

// text decodes what writes itself as JSON text: durations, percentages.
func (d *Document) text(field string, n ast.Node, v reflect.Value) {
	s, ok := plain(n)
	if !ok {
		s = n.GetToken().Value // a number without its unit: let the type say how it is written
		if kind := kindOf(n); kind != "a number" {
			d.mismatch(field, n, "text")
			return
		}
	}
	quoted, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(quoted, v.Addr().Interface())
	}
	if err != nil {
		d.add(place(n), field, "%s", err)
	}
}

func (d *Document) number(field string, n ast.Node, v reflect.Value) {
	switch x := n.(type) {
	case *ast.FloatNode:
		v.SetFloat(x.Value)
	case *ast.IntegerNode:
		switch i := x.Value.(type) {
		case int64:
			v.SetFloat(float64(i))
		case uint64:
			v.SetFloat(float64(i))
		}
	default:
		d.mismatch(field, n, "a number")
	}
}

func (d *Document) integer(field string, n ast.Node, v reflect.Value) {
	x, ok := n.(*ast.IntegerNode)
	if !ok {
		d.mismatch(field, n, "a whole number")
		return
	}
	switch i := x.Value.(type) {
	case int64:
		v.SetInt(i)
	case uint64:
		if i > math.MaxInt64 {
			d.add(place(n), field, "%d is too large", i)
			return
		}
		v.SetInt(int64(i))
	}
}

// pairs are the fields of a mapping, each key once and plain text.
func (d *Document) pairs(field string, n ast.Node) (keys []string, values []*ast.MappingValueNode, ok bool) {
	var all []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		all = m.Values
	case *ast.MappingValueNode:
		all = []*ast.MappingValueNode{m}
	default:
		d.mismatch(field, n, "fields")
		return nil, nil, false
	}
	for _, pair := range all {
		key, isText := pair.Key.(*ast.StringNode)
		switch {
		case !isText:
			d.add(place(pair.Key), field, "the name of a field has to be plain text")
		case slices.Contains(keys, key.Value):
			d.add(place(pair.Key), join(field, key.Value), "is there twice")
		default:
			keys, values = append(keys, key.Value), append(values, pair)
		}
	}
	return keys, values, true
}

func (d *Document) structure(field string, n ast.Node, v reflect.Value) {
	keys, pairs, ok := d.pairs(field, n)
	if !ok {
		return
	}
	known := fields(v.Type())
	for i, key := range keys {
		path := join(field, key)
		at := slices.IndexFunc(known, func(f jsonField) bool { return f.name == key })
		if at < 0 {
			d.add(place(pairs[i].Key), path, "%s", d.unknown(path, key, known))
			continue
		}
		d.value(path, pairs[i].Value, v.Field(known[at].index))
	}
}

func (d *Document) mapping(field string, n ast.Node, v reflect.Value) {
	keys, pairs, ok := d.pairs(field, n)
	if !ok {
		return
	}
	all := reflect.MakeMap(v.Type())
	for i, key := range keys {
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(join(field, key), pairs[i].Value, element)
		all.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), element)
	}
	v.Set(all)
}

func (d *Document) sequence(field string, n ast.Node, v reflect.Value) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		d.mismatch(field, n, "a list")
		return
	}
	all := reflect.MakeSlice(v.Type(), len(s.Values), len(s.Values))
	for i, element := range s.Values {
		d.value(fmt.Sprintf("%s[%d]", field, i), element, all.Index(i))
	}
	v.Set(all)
}

type jsonField struct {
	name     string
	index    int
	optional bool
}

// fields are the fields of a struct as the file names them.
func fields(t reflect.Type) []jsonField {
	var all []jsonField
	for i := range t.NumField() {
		tag, ok := t.Field(i).Tag.Lookup("json")
		name, options, _ := strings.Cut(tag, ",")
		if ok && name != "-" {
			all = append(all, jsonField{name, i, strings.Contains(options, "omitempty")})
		}
	}
	return all
}

func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

// unknown says what may have been meant.
func (d *Document) unknown(path, key string, known []jsonField) string {
	if why, ok := d.format.NotYet[pattern(path)]; ok {
		return why
	}
	names := make([]string, len(known))
	for i, f := range known {
		names[i] = f.name
	}
	if meant := Nearest(key, names); meant != "" {
		return "there is no such field" + meant
	}
	return "there is no such field; there are " + strings.Join(names, ", ")
}

// Nearest asks whether one of the known words is meant by a mistyped one; empty when none is near.
func Nearest(typed string, known []string) string {
	nearest, distance := "", 3
	for _, k := range known {
		if n := spelling.Distance(typed, k); n < distance {
			nearest, distance = k, n
		}
	}
	if nearest == "" {
		return ""
	}
	return fmt.Sprintf("; is %q meant?", nearest)
}

// pattern is a path without the numbers of list elements.
func pattern(path string) string {
	var b strings.Builder
	inside := false
	for _, r := range path {
		switch {
		case r == '[':
			inside = true
			b.WriteString("[]")
		case r == ']':
			inside = false
		case !inside:
			b.WriteRune(r)
		}
	}
	return b.String()
}

package schema

import (
	"fmt"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/lemnis/lemnis/pkg/events"
)

// Certain reports whether a body is for certain a valid event of a type of the catalogue: UTF-8, one JSON object in which
// no object has two members of one name, and what [Validate] lets through. It looks at the body once, without making
// values of it. False says nothing: schemas and texts that are out of the ordinary (a name or a distinguished value that
// is written with escapes, a pattern) are left to Validate, which also says what is wrong.
func Certain(t events.Type, body []byte) bool {
	s, err := shapeOf(t)
	if err != nil || !utf8.Valid(body) {
		return false
	}
	r := reader{text: body}
	end := r.value(s, r.space(0), 0)
	return end > 0 && r.space(end) == len(body)
}

// kinds of JSON values, as bits.
const (
	null = 1 << iota
	boolean
	number // whole or not
	integer
	text
	array
	object

	anything = null | boolean | number | integer | text | array | object
)

var kindsByName = map[string]int{"null": null, "boolean": boolean, "number": number | integer, "integer": integer, "string": text, "array": array, "object": object}

// shape is a schema in the form in which a text can be held against it while it is read.
type shape struct {
	kinds    int
	natural  bool            // a number is not negative
	least    int             // characters of a string
	choice   map[string]bool // the strings that it may be; nil: any
	members  map[string]member
	required uint64 // numbers of members
	others   *shape // of members that are not named; nil: there are to be none
	items    *shape
	also     []*shape // hold as well
	either   []*shape // one of them holds; nil: there is no such demand
	beyond   bool     // has something that is not understood here: nothing is certain
}

// member is a named member of an object: its number, from 0, and its shape.
type member struct {
	number int
	shape  *shape
}

const mostMembers = 64

// whatever is the shape of everything.
var whatever = func() *shape {
	s := &shape{kinds: anything}
	s.others, s.items = s, s
	return s
}()

// shaping makes shapes of schemas, each once: they may refer to each other.
type shaping map[*jsonschema.Schema]*shape

func (made shaping) of(s *jsonschema.Schema) *shape {
	if s == nil {
		return whatever
	}
	if made[s] != nil {
		return made[s]
	}
	out := &shape{kinds: anything, others: whatever, items: whatever}
	made[s] = out
	if s.Bool != nil {
		if !*s.Bool {
			out.beyond = true
		}
		return out
	}
	out.beyond = foreign(s)
	if s.Types != nil && !s.Types.IsEmpty() {
		out.kinds = 0
		for _, name := range s.Types.ToStrings() {
			out.kinds |= kindsByName[name]
		}
	}
	if s.Minimum != nil {
		out.natural = true
		out.beyond = out.beyond || s.Minimum.Sign() != 0
	}
	if s.MinLength != nil {
		out.least = *s.MinLength
	}
	if s.Const != nil {
		out.choose([]any{*s.Const})
	}
	if s.Enum != nil {
		out.choose(s.Enum.Values)
	}
	made.object(s, out)
	if s.Items2020 != nil {
		out.items = made.of(s.Items2020)
	}
	if s.Ref != nil {
		out.also = append(out.also, made.of(s.Ref))
	}
	for _, one := range s.AllOf {
		out.also = append(out.also, made.of(one))
	}
	made.alternatives(s, out)
	return out
}

// foreign reports whether a schema has a demand that shapes do not have.
func foreign(s *jsonschema.Schema) bool {
	return s.DynamicRef != nil || s.RecursiveRef != nil || s.Not != nil || s.If != nil || s.Then != nil || s.Else != nil || s.Format != nil ||
		s.MaxProperties != nil || s.MinProperties != nil || s.PropertyNames != nil || len(s.PatternProperties) > 0 || len(s.Dependencies) > 0 ||
		len(s.DependentRequired) > 0 || len(s.DependentSchemas) > 0 || s.UnevaluatedProperties != nil || s.MinItems != nil || s.MaxItems != nil ||
		s.UniqueItems || s.Contains != nil || s.MinContains != nil || s.MaxContains != nil || s.Items != nil || s.AdditionalItems != nil ||
		len(s.PrefixItems) > 0 || s.UnevaluatedItems != nil || s.MaxLength != nil || s.Pattern != nil || s.ContentEncoding != nil ||
		s.ContentMediaType != nil || s.ContentSchema != nil || s.Maximum != nil || s.ExclusiveMaximum != nil || s.ExclusiveMinimum != nil ||
		s.MultipleOf != nil || len(s.Extensions) > 0
}

// choose narrows down to some strings.
func (out *shape) choose(values []any) {
	of := map[string]bool{}
	for _, v := range values {
		if s, ok := v.(string); ok && (out.choice == nil || out.choice[s]) {
			of[s] = true
		}
	}
	out.choice, out.kinds = of, out.kinds&text // of other values no text is certain
}

func (made shaping) object(s *jsonschema.Schema, out *shape) {
	out.members = make(map[string]member, len(s.Properties))
	for name, of := range s.Properties {
		out.members[name] = member{len(out.members), made.of(of)}
	}
	switch other := s.AdditionalProperties.(type) {
	case bool:
		if !other {
			out.others = nil
		}
	case *jsonschema.Schema:
		out.others = made.of(other)
	}
	for _, name := range s.Required {
		m, ok := out.members[name]
		if !ok {
			m = member{len(out.members), out.others}
			out.members[name] = m
			out.beyond = out.beyond || out.others == nil
		}
		if m.number < mostMembers {
			out.required |= 1 << m.number
		}
	}
	out.beyond = out.beyond || len(out.members) > mostMembers
}

// alternatives takes anyOf, and oneOf where no value is of two of its kinds.
func (made shaping) alternatives(s *jsonschema.Schema, out *shape) {
	for _, one := range s.AnyOf {
		out.either = append(out.either, made.of(one))
	}
	if len(s.OneOf) == 0 {
		return
	}
	seen := 0
	one := &shape{kinds: anything, others: whatever, items: whatever}
	for _, alternative := range s.OneOf {
		a := made.of(alternative)
		out.beyond = out.beyond || seen&a.kinds != 0
		seen |= a.kinds
		one.either = append(one.either, a)
	}
	out.also = append(out.also, one)
}

// shapeOf makes the shape of a type once.
func shapeOf(t events.Type) (*shape, error) {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape), nil
	}
	compiled, err := schemaOf(t)
	if err != nil {
		return nil, fmt.Errorf("schema of %s: %w", t, err)
	}
	s, _ := shapes.LoadOrStore(t, shaping{}.of(compiled))
	return s.(*shape), nil
}

package command

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

// field is one value within the content of a type, as people name it: the names of its JSON members, joined by dots. What
// Lemnis adds to a standard type stands under "lemnis".
type field struct {
	path     string
	typ      reflect.Type // without pointers
	required bool
	values   []string // that it may have; empty: any
}

// contentFields are those of a content type, with those of the structs within it. Lists and maps are one field each.
func contentFields(t reflect.Type) []field { return structFields("", t, true) }

func structFields(prefix string, t reflect.Type, required bool) (all []field) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner, must := f.Type, required && !strings.Contains(options, "omitempty")
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		rules := strings.Split(f.Tag.Get("schema"), ",")
		switch {
		case f.Anonymous && name == "":
			all = append(all, structFields(prefix, inner, required)...)
			continue
		case f.Name == "Lemnis":
			all = append(all, structFields("lemnis.", inner, false)...)
			continue
		case name == "-" || name == "":
			continue
		}
		must = must && !slices.Contains(rules, "optional")
		if inner.Kind() == reflect.Struct {
			all = append(all, structFields(prefix+name+".", inner, must)...)
			continue
		}
		one := field{path: prefix + name, typ: inner, required: must && inner.Kind() == reflect.String}
		for _, rule := range rules {
			if values, ok := strings.CutPrefix(rule, "enum="); ok {
				one.values = strings.Split(values, "|")
			}
		}
		all = append(all, one)
	}
	return all
}

// kind says in a word what is to be written.
func (f field) kind() string {
	switch {
	case f.bytes(), f.text():
		return "text"
	case f.typ.Kind() == reflect.Slice:
		return field{typ: f.typ.Elem()}.kind()
	case f.typ.Kind() == reflect.Map:
		return "name=value"
	case f.typ.Kind() == reflect.Struct:
		return "json"
	case f.typ.Kind() == reflect.Bool:
		return "bool"
	case f.typ.Kind() == reflect.Float64:
		return "number"
	}
	return "whole-number"
}

func (f field) bytes() bool { return f.typ == reflect.TypeFor[[]byte]() }

// text is what JSON writes as text: strings, durations, percentages.
func (f field) text() bool {
	return f.typ.Kind() == reflect.String || f.typ == reflect.TypeFor[events.Duration]() || f.typ == reflect.TypeFor[events.Percent]()
}

// repeated reports whether the field can be said several times.
func (f field) repeated() bool {
	return !f.bytes() && (f.typ.Kind() == reflect.Slice || f.typ.Kind() == reflect.Map)
}

// parse makes of a text what stands in the content.
func (f field) parse(text string) (any, error) {
	switch {
	case f.bytes():
		return base64.StdEncoding.EncodeToString([]byte(text)), nil
	case len(f.values) > 0 && !slices.Contains(f.values, text):
		return nil, fmt.Errorf("has to be one of %s%s", strings.Join(f.values, ", "), didYouMean(text, f.values))
	case f.text():
		return text, nil
	}
	switch f.kind() {
	case "bool":
		if v, err := strconv.ParseBool(text); err == nil {
			return v, nil
		}
		return nil, fmt.Errorf("has to be true or false, not %q", text)
	case "json":
		var v map[string]any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			return nil, fmt.Errorf("has to be a JSON object: %w", err)
		}
		return v, nil
	case "number":
		if _, err := strconv.ParseFloat(text, 64); err != nil || !json.Valid([]byte(text)) {
			return nil, fmt.Errorf("has to be a number, not %q", text)
		}
	default:
		if _, err := strconv.ParseInt(text, 10, 64); err != nil {
			if _, err := strconv.ParseUint(text, 10, 64); err != nil {
				return nil, fmt.Errorf("has to be a whole number, not %q", text)
			}
		}
	}
	return json.Number(text), nil
}

// fieldFlag is the flag that sets a field of a content.
type fieldFlag struct {
	field
	said []string // as it was written
	into *[]func(content map[string]any) error
}

func (v *fieldFlag) String() string { return strings.Join(v.said, ",") }
func (v *fieldFlag) Type() string   { return v.kind() }

// Set checks at once, so that the error names the flag, and puts the value into the content when all is read.
func (v *fieldFlag) Set(text string) error {
	one := v.field
	name := ""
	if v.repeated() {
		one.typ = v.typ.Elem()
		if v.typ.Kind() == reflect.Map {
			var ok bool
			if name, text, ok = strings.Cut(text, "="); !ok || name == "" {
				return fmt.Errorf("has to be written as name=value, not %q", name)
			}
		}
	}
	value, err := one.parse(text)
	if err != nil {
		return err
	}
	v.said = append(v.said, text)
	first := len(v.said) == 1
	*v.into = append(*v.into, func(content map[string]any) error {
		holder, last, err := within(content, v.path)
		switch {
		case err != nil:
			return usage("--%s: %v", v.path, err)
		case v.typ.Kind() == reflect.Map:
			if holder[last] == nil || first {
				holder[last] = map[string]any{}
			}
			holder[last].(map[string]any)[name] = value
		case v.repeated():
			if holder[last] == nil || first {
				holder[last] = []any{}
			}
			holder[last] = append(holder[last].([]any), value)
		default:
			holder[last] = value
		}
		return nil
	})
	return nil
}

// within finds the object that holds the last name of a path, and makes those on the way.
func within(content map[string]any, path string) (holder map[string]any, last string, err error) {
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		inner, ok := content[name].(map[string]any)
		if !ok {
			if content[name] != nil {
				return nil, "", fmt.Errorf("%s has a value already that holds no fields", name)
			}
			inner = map[string]any{}
			content[name] = inner
		}
		content = inner
	}
	return content, names[len(names)-1], nil
}

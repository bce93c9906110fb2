// Package schema judges the JSON of events against the schemas of package contract, which demand, allow and forbid what
// the official schemas of CDEvents do, and describe the contents of Lemnis's own types beside.
//
//	if err := schema.Validate(body); err != nil {
//		// subject.content.outcome: must be one of "success", "failure", "cancel", "error" …
//	}
//
// The schema of a type is compiled when it is asked for the first time, in well under a millisecond. The official SDK
// (github.com/cdevents/sdk-go) compiles those of all versions of the specification when a program starts, some 100 ms of
// two cores and 33 MB of allocations; it is used in tests only, which hold these schemas against its.
//
// Formats (uri, date-time, …) are annotations in these schemas and are not checked, as they are not by the SDK.
package schema

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/pkg/events/contract"
)

// ErrInvalid is what every error of [Validate] wraps.
var ErrInvalid = errors.New("not a valid CDEvent")

// Validate judges the JSON of a CDEvent of the catalogue by the schema of its type. The error is one line: the JSON path
// and what is wrong there.
func Validate(body []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	t, err := typeOf(value)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	compiled, err := schemaOf(t)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	err = compiled.Validate(value)
	var found *jsonschema.ValidationError
	if errors.As(err, &found) {
		return fmt.Errorf("%w: %s", ErrInvalid, describe(found))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	s, err := shapeOf(t)
	if err == nil {
		err = s.misspelled(value, "", 0)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// typeOf finds the type of the catalogue that an event is to be judged by.
func typeOf(value any) (events.Type, error) {
	object, ok := value.(map[string]any)
	if !ok {
		return "", errors.New("it is no JSON object")
	}
	context, ok := object["context"].(map[string]any)
	if !ok {
		return "", errors.New("context: is missing or no JSON object")
	}
	spec, _ := context["specversion"].(string)
	if spec == "" {
		return "", errors.New("context.specversion: is missing")
	}
	if spec != events.SpecVersion {
		return "", fmt.Errorf("context.specversion: CDEvents %q is not supported; this is %s", spec, events.SpecVersion)
	}
	name, _ := context["type"].(string)
	if name == "" {
		return "", errors.New("context.type: is missing")
	}
	t := events.Type(name)
	if _, known := events.Lookup(t); known {
		return t, nil
	}
	if other, err := events.ParseType(t.Short()); err == nil && other.Custom() == t.Custom() {
		return "", fmt.Errorf("context.type: must be %q, not %q", other, name)
	}
	return "", fmt.Errorf("context.type: neither CDEvents %s nor Lemnis has a type %q", spec, name)
}

var (
	compiled sync.Map // of func() (*jsonschema.Schema, error), by type
	shapes   sync.Map // of *shape, by type
)

// schemaOf compiles the schema of a type once.
func schemaOf(t events.Type) (*jsonschema.Schema, error) {
	once, ok := compiled.Load(t)
	if !ok {
		once, _ = compiled.LoadOrStore(t, sync.OnceValues(func() (*jsonschema.Schema, error) { return compile(t) }))
	}
	return once.(func() (*jsonschema.Schema, error))()
}

func compile(t events.Type) (*jsonschema.Schema, error) {
	text, ok := contract.Schema(t)
	if !ok {
		return nil, fmt.Errorf("there is no schema of %s", t)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("schema of %s: %w", t, err)
	}
	url := "urn:lemnis:schema:" + string(t)
	c := jsonschema.NewCompiler()
	if err := c.AddResource(url, document); err != nil {
		return nil, fmt.Errorf("schema of %s: %w", t, err)
	}
	return c.Compile(url)
}

var english = message.NewPrinter(language.English)

// describe renders what is wrong in one line: the first finding, and how many more there are.
func describe(found *jsonschema.ValidationError) string {
	all := findings(found)
	slices.SortStableFunc(all, func(a, b *jsonschema.ValidationError) int {
		return strings.Compare(path(a), path(b))
	})
	where, what := path(all[0]), say(all[0])
	if missing, ok := all[0].ErrorKind.(*kind.Required); ok {
		where = join(where, missing.Missing[0])
		what = "is missing"
	}
	line := where + ": " + what
	if where == "" {
		line = what
	}
	if n := len(all) - 1; n > 0 {
		line += fmt.Sprintf(" (and %d more)", n)
	}
	return line
}

// findings are the leaves of the tree of errors. Of alternatives only that counts which the
// event comes closest to.
func findings(e *jsonschema.ValidationError) []*jsonschema.ValidationError {
	if len(e.Causes) == 0 {
		return []*jsonschema.ValidationError{e}
	}
	var all []*jsonschema.ValidationError
	_, anyOf := e.ErrorKind.(*kind.AnyOf)
	_, oneOf := e.ErrorKind.(*kind.OneOf)
	for i, cause := range e.Causes {
		of := findings(cause)
		switch {
		case !anyOf && !oneOf:
			all = append(all, of...)
		case i == 0 || distance(of) < distance(all):
			all = of
		}
	}
	return all
}

// distance weighs findings: a value that is not the one which an alternative is known by (the
// linkType of a link) tells that another alternative was meant.
func distance(all []*jsonschema.ValidationError) int {
	n := 0
	for _, e := range all {
		switch e.ErrorKind.(type) {
		case *kind.Enum, *kind.Const:
			n += 100
		default:
			n++
		}
	}
	return n
}

func say(e *jsonschema.ValidationError) string {
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		return fmt.Sprintf("must be a JSON %s, not %s", strings.Join(k.Want, " or "), k.Got)
	case *kind.AdditionalProperties:
		return "must not have " + strings.Join(quoted(k.Properties), ", ")
	case *kind.Enum:
		return fmt.Sprintf("must be %s, not %q", choice(k.Want), fmt.Sprint(k.Got))
	case *kind.Const:
		return fmt.Sprintf("must be %s, not %q", choice([]any{k.Want}), fmt.Sprint(k.Got))
	case *kind.MinLength:
		return "must not be empty"
	}
	return strings.ReplaceAll(e.ErrorKind.LocalizedString(english), "\n", " ")
}

func choice(values []any) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = fmt.Sprint(v)
	}
	if len(words) == 1 {
		return strconv.Quote(words[0])
	}
	return "one of " + strings.Join(quoted(words), ", ")
}

func quoted(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = strconv.Quote(w)
	}
	return out
}

// path is the place of a finding as people write it: context.links[0].tags.
func path(e *jsonschema.ValidationError) string {
	p := ""
	for _, token := range e.InstanceLocation {
		if _, err := strconv.Atoi(token); err == nil {
			p += "[" + token + "]"
		} else {
			p = join(p, token)
		}
	}
	return p
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// Package schema judges CDEvents against the official JSON schemas.
//
//	if err := schema.Validate(body); err != nil {
//		// subject.content.outcome: must be one of "success", "failure", "cancel", "error" …
//	}
//
// The schemas are those that the official SDK (github.com/cdevents/sdk-go) embeds. That module
// compiles the schemas of all versions of the specification when a program starts, which costs
// some 100 ms of two cores and 33 MB of allocations; it offers no way around that. So import this package where
// events come in from outside and in tests, and nowhere else.
//
// Formats (uri, date-time, …) are annotations in these schemas and are not checked, as they are
// not by the SDK.
package schema

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cdevents/sdk-go/pkg/api"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/lemnis/lemnis/pkg/events"
)

// ErrInvalid is what every error of [Validate] wraps.
var ErrInvalid = errors.New("not a valid CDEvent")

// Validate judges the JSON of a CDEvent by the schema of its type and specification version. The
// error is one line: the JSON path and what is wrong there.
func Validate(body []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	url, err := schemaOf(value)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	err = api.CompiledSchemas[url].Validate(value)
	var found *jsonschema.ValidationError
	if errors.As(err, &found) {
		return fmt.Errorf("%w: %s", ErrInvalid, describe(found))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// schemaOf finds the schema that an event asks to be judged by.
func schemaOf(value any) (url string, err error) {
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
	name, _ := context["type"].(string)
	if name == "" {
		return "", errors.New("context.type: is missing")
	}
	t := events.Type(name)
	if t.Custom() {
		url = fmt.Sprintf(api.CDEventsCustomSchemaURLTemplate, spec)
	} else {
		url = fmt.Sprintf(api.CDEventsSchemaURLTemplate, spec, t.Subject(), t.Predicate())
	}
	if api.CompiledSchemas[url] != nil {
		return url, nil
	}
	if api.CompiledSchemas[fmt.Sprintf(api.CDEventsCustomSchemaURLTemplate, spec)] == nil {
		return "", fmt.Errorf("context.specversion: CDEvents %q is not supported; this is %s", spec, events.SpecVersion)
	}
	return "", fmt.Errorf("context.type: CDEvents %s has no type %q", spec, name)
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

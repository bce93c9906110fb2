package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

const dialect = "https://json-schema.org/draft/2020-12/schema"

type schema = map[string]any

var marshaler = reflect.TypeFor[json.Marshaler]()

// eventSchema describes the body of an event: the CDEvent, with what Lemnis adds to it in customData.
//
// The content of a standard type is closed, as CDEvents has it; that of Lemnis's own types and of customData is open,
// since a later version may add to it.
func eventSchema(entry events.Entry, said comments) schema {
	b := &builder{said: said, defs: schema{}, closed: map[string]bool{}}
	content := reflect.TypeOf(entry.Zero())
	custom := schema{"type": "object"}
	if detail, ok := content.FieldByName("Lemnis"); ok {
		custom["properties"] = schema{"lemnis": b.reference(detail.Type, false)}
	}
	closed := !entry.Type.Custom()
	subject := object(schema{
		"id":      text("Id of what the event is about.", "nonempty"),
		"source":  subjectSource(entry.Type),
		"content": b.structure(content, closed),
	}, "id", "content")
	if _, ok := entry.Zero().(events.TicketClosed); ok { // a member that CDEvents has dropped everywhere else
		subject["properties"].(schema)["type"] = schema{"const": "ticket"}
	}
	root := object(schema{
		"context":               b.context(entry.Type),
		"subject":               subject,
		"customData":            schema{"oneOf": []schema{custom, {"type": "string", "contentEncoding": "base64"}}, "description": "What CDEvents has no field for; what Lemnis adds stands in the member lemnis."},
		"customDataContentType": text("Media type of customData."),
	}, "context", "subject")
	root["$schema"], root["title"], root["description"] = dialect, entry.Type.Short(), said[content.Name()]
	root["$defs"] = b.defs
	return root
}

// subjectSource may be empty in what CDEvents says of tests, and there only.
func subjectSource(t events.Type) schema {
	const what = "Where what the event is about lives, a URI reference."
	if !t.Custom() && strings.HasPrefix(t.Subject(), "test") {
		return text(what)
	}
	return text(what, "nonempty", "format=uri-reference")
}

// builder gathers the definitions that a schema refers to.
type builder struct {
	said   comments
	defs   schema
	closed map[string]bool // of each definition
}

func (b *builder) context(t events.Type) schema {
	b.defs["Links"] = links()
	return object(schema{
		"specversion": schema{"const": events.SpecVersion, "description": "Version of CDEvents."},
		"id":          text("Unique together with source.", "nonempty"),
		"source":      text("Who says it, a URI reference.", "nonempty", "format=uri-reference"),
		"type":        schema{"const": string(t)},
		"timestamp":   text("When it happened, RFC 3339.", "format=date-time"),
		"chainId":     text("The turn of the loop that the event is part of.", "nonempty"),
		"schemaUri":   text("Where its author keeps a further schema.", "nonempty", "format=uri"),
		"links":       schema{"$ref": "#/$defs/Links"},
	}, "specversion", "id", "source", "type", "timestamp")
}

func object(properties schema, required ...string) schema {
	s := schema{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

func text(description string, rules ...string) schema {
	s := schema{"type": "string", "description": description}
	apply(s, rules)
	return s
}

// apply adds what the tag `schema` of a field says: nonempty, format=F, enum=a|b. For members are: optional, of a field
// that JSON always shows; optional=a|b and nonempty=a|b, of fields of an embedded struct; open, of a struct that may have more members.
func apply(s schema, rules []string) {
	for _, rule := range rules {
		name, value, _ := strings.Cut(rule, "=")
		switch name {
		case "", "optional", "open":
		case "nonempty":
			s["minLength"] = 1
		case "format":
			s["format"] = value
		case "enum":
			s["enum"] = strings.Split(value, "|")
		default:
			panic(fmt.Sprintf("contract: a field's tag says %q, which means nothing", rule))
		}
	}
}

// structure describes a struct by the fields that JSON shows of it.
func (b *builder) structure(t reflect.Type, closed bool) schema {
	properties := schema{}
	var required []string
	b.members(t, closed, properties, &required)
	s := schema{"type": "object", "properties": properties}
	if closed {
		s["additionalProperties"] = false
	}
	if len(required) > 0 {
		s["required"] = required
	}
	if d := b.said[t.Name()]; d != "" {
		s["description"] = d
	}
	return s
}

func (b *builder) members(t reflect.Type, closed bool, properties schema, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		rules := strings.Split(f.Tag.Get("schema"), ",")
		if f.Anonymous && name == "" {
			b.members(f.Type, closed, properties, required)
			for _, rule := range rules {
				what, names, _ := strings.Cut(rule, "=")
				of := strings.Split(names, "|")
				switch what {
				case "optional":
					*required = slices.DeleteFunc(*required, func(n string) bool { return slices.Contains(of, n) })
				case "nonempty":
					for _, n := range of {
						properties[n].(schema)["minLength"] = 1
					}
				}
			}
			continue
		}
		if name == "-" || name == "" {
			continue
		}
		always := !strings.Contains(options, "omitempty")
		s := b.value(f.Type, closed && !slices.Contains(rules, "open"), always)
		apply(s, rules)
		if d := b.said[t.Name()+"."+f.Name]; d != "" {
			s["description"] = d
		}
		properties[name] = s
		if always && !slices.Contains(rules, "optional") {
			*required = append(*required, name)
		}
	}
}

// value describes a type as encoding/json writes it. Where an empty list or map is not left out, a nil one is null.
func (b *builder) value(t reflect.Type, closed, always bool) schema {
	kind := func(name string) any {
		if always {
			return []string{name, "null"}
		}
		return name
	}
	switch {
	case t.Kind() == reflect.Pointer:
		return b.value(t.Elem(), closed, false)
	case t == reflect.TypeFor[events.Duration]():
		return schema{"type": "string", "examples": []string{"300ms", "1h", "2w"}}
	case t == reflect.TypeFor[events.Bytes]():
		return schema{"type": "string", "pattern": `^[0-9]+([KMG]i)?B$`}
	case t == reflect.TypeFor[events.Percent]():
		return schema{"type": "string", "pattern": `^[0-9]+(\.[0-9]+)?%$`}
	case t.Implements(marshaler):
		panic(fmt.Sprintf("contract: %s writes itself; say how", t))
	}
	switch t.Kind() {
	case reflect.Struct:
		return b.reference(t, closed)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return schema{"type": kind("string"), "contentEncoding": "base64"}
		}
		return schema{"type": kind("array"), "items": b.value(t.Elem(), closed, false)}
	case reflect.Map:
		s := schema{"type": kind("object"), "additionalProperties": b.value(t.Elem(), closed, false)}
		if t.Key() == reflect.TypeFor[events.Phase]() {
			s["propertyNames"] = schema{"enum": events.Phases()}
		}
		return s
	case reflect.String:
		return schema{"type": "string"}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return schema{"type": "integer"}
	case reflect.Uint64:
		return schema{"type": "integer", "minimum": 0}
	case reflect.Float64:
		return schema{"type": "number"}
	}
	panic(fmt.Sprintf("contract: no schema for %s", t))
}

// reference defines a struct once.
func (b *builder) reference(t reflect.Type, closed bool) schema {
	if before, ok := b.closed[t.Name()]; ok && before != closed {
		panic(fmt.Sprintf("contract: %s stands in a closed and in an open place of one event", t))
	}
	if b.defs[t.Name()] == nil {
		b.closed[t.Name()] = closed
		b.defs[t.Name()] = schema{} // ends a recursion
		b.defs[t.Name()] = b.structure(t, closed)
	}
	return schema{"$ref": "#/$defs/" + t.Name()}
}

// links are those that CDEvents 0.5 embeds.
func links() schema {
	one := func(linkType events.LinkType, description string, more schema, required ...string) schema {
		more["linkType"] = schema{"const": linkType}
		more["tags"] = schema{"type": "object", "description": "What its author notes."}
		s := object(more, append([]string{"linkType"}, required...)...)
		s["description"] = description
		return s
	}
	event := func(required ...string) schema {
		s := object(schema{"contextId": text("Id of the other event.", "nonempty")}, required...)
		delete(s, "additionalProperties")
		return s
	}
	return schema{
		"type": "array", "description": "How the event is tied to others.",
		"items": schema{"anyOf": []schema{
			one(events.Path, "The cause.", schema{"from": event("contextId")}, "from"),
			one(events.End, "The end of a chain.", schema{"from": event("contextId")}),
			one(events.Relation, "Something else that it concerns.", schema{"linkKind": text("How it concerns it.", "nonempty"), "target": event()}, "linkKind", "target"),
		}},
	}
}

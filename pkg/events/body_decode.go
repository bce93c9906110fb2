package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// decoder reads a CDEvent's body into an event, its content typed.
func decoder[T any]() func(data []byte, e *Event) error {
	shape := shapeOf(reflect.TypeFor[T]())
	return func(data []byte, e *Event) error {
		raw, err := e.readBody(data)
		if err != nil {
			return err
		}
		content := new(T)
		if raw != nil && !shape.read(raw, reflect.ValueOf(content).Elem()) {
			content = new(T)
			if err := json.Unmarshal(raw, content); err != nil {
				return misfit("subject.content", err)
			}
		}
		if e.Custom != nil {
			if err := e.splitCustom(content); err != nil {
				return err
			}
		}
		e.Content = *content
		return nil
	}
}

// readBody reads all of a body but the content, which it returns as it stands. Custom still
// aliases data.
func (e *Event) readBody(data []byte) (content []byte, err error) {
	var timestamp string
	var links []byte
	inContext := func(name, value []byte) error {
		switch string(name) {
		case "id":
			return text(&e.ID, value, "context.id")
		case "source":
			return text(&e.Source, value, "context.source")
		case "type":
			return text((*string)(&e.Type), value, "context.type")
		case "timestamp":
			return text(&timestamp, value, "context.timestamp")
		case "chainId":
			return text(&e.Chain, value, "context.chainId")
		case "schemaUri":
			return text(&e.SchemaURI, value, "context.schemaUri")
		case "links":
			links = value
			return nil
		}
		return valid(value)
	}
	inSubject := func(name, value []byte) error {
		switch string(name) {
		case "id":
			return text(&e.SubjectID, value, "subject.id")
		case "source":
			return text(&e.SubjectSource, value, "subject.source")
		case "content":
			content = value
			return nil
		}
		return valid(value)
	}
	err = members(data, func(name, value []byte) error {
		switch string(name) {
		case "context":
			return members(value, inContext)
		case "subject":
			return members(value, inSubject)
		case "customData":
			e.Custom = value
			return nil
		case "customDataContentType":
			return text(&e.CustomType, value, "customDataContentType")
		}
		return valid(value)
	})
	if err != nil {
		return nil, unreadable(data, err)
	}
	switch {
	case e.ID == "":
		return nil, fmt.Errorf("%w: context.id is missing", ErrNotCDEvent)
	case e.Source == "":
		return nil, fmt.Errorf("%w: context.source is missing", ErrNotCDEvent)
	case e.SubjectID == "":
		return nil, fmt.Errorf("%w: subject.id is missing", ErrNotCDEvent)
	}
	if e.Time, err = parseTime(timestamp); err != nil {
		return nil, fmt.Errorf("%w: context.timestamp %w", ErrNotCDEvent, err)
	}
	if string(e.Custom) == "null" {
		e.Custom = nil
	}
	if e.Custom == nil {
		e.CustomType = ""
	}
	if links == nil || string(links) == "null" {
		return content, nil
	}
	if err := e.readLinks(links); err != nil {
		return nil, unreadable(data, err)
	}
	return content, nil
}

func (e *Event) readLinks(raw []byte) error {
	return elements(raw, func(element []byte) error {
		var l Link
		context := func(name, value []byte) error {
			if string(name) == "contextId" {
				return text(&l.Context, value, "contextId of a link")
			}
			return valid(value)
		}
		err := members(element, func(name, value []byte) error {
			switch string(name) {
			case "linkType":
				return text((*string)(&l.Type), value, "linkType of a link")
			case "linkKind":
				return text(&l.Kind, value, "linkKind of a link")
			case "from", "target":
				return members(value, context)
			case "tags":
				return l.readTags(value)
			}
			return valid(value)
		})
		e.Links = append(e.Links, l)
		return err
	})
}

func (l *Link) readTags(raw []byte) error {
	if string(raw) == "{}" {
		return nil
	}
	if err := json.Unmarshal(raw, &l.Tags); err != nil {
		return misfit("tags of a link", err)
	}
	if len(l.Tags) == 0 {
		l.Tags = nil
	}
	return nil
}

// splitCustom moves customData.lemnis into the content's Lemnis field and keeps a copy of the
// rest.
func (e *Event) splitCustom(content any) error {
	v := reflect.ValueOf(content).Elem()
	if entry := byContent[v.Type()]; entry != nil && entry.extra >= 0 && e.Custom[0] == '{' {
		extra, rest, err := cutMember(e.Custom, customKey)
		if err != nil {
			return unreadable(e.Custom, err)
		}
		if extra != nil {
			if err := json.Unmarshal(extra, v.Field(entry.extra).Addr().Interface()); err != nil {
				return misfit("customData.lemnis", err)
			}
			if e.Custom = rest; rest == nil {
				e.CustomType = ""
				return nil
			}
		}
	}
	if !json.Valid(e.Custom) {
		return fmt.Errorf("%w: customData is malformed JSON", ErrNotCDEvent)
	}
	e.Custom = bytes.Clone(e.Custom)
	return nil
}

// cutMember takes the member with this name out of an object; rest is nil when nothing is left.
func cutMember(object []byte, key string) (member, rest []byte, err error) {
	others := 0
	err = members(object, func(name, value []byte) error {
		if string(name) == key {
			member = value
			return nil
		}
		others++
		return nil
	})
	if err != nil || member == nil || others == 0 {
		return member, nil, err
	}
	rest = append(make([]byte, 0, len(object)), '{')
	_ = members(object, func(name, value []byte) error { // it was walked just now
		if string(name) == key {
			return nil
		}
		if len(rest) > 1 {
			rest = append(rest, ',')
		}
		rest = append(appendString(rest, string(name)), ':')
		rest = append(rest, value...)
		return nil
	})
	return member, append(rest, '}'), nil
}

// valid judges a value that nobody reads.
func valid(raw []byte) error {
	if !json.Valid(raw) {
		return errSyntax
	}
	return nil
}

// misfit says which part of a body does not have the shape that its type asks for.
func misfit(path string, err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		for name := range strings.SplitSeq(wrong.Field, ".") {
			if name != "" && (name[0] < 'A' || name[0] > 'Z') { // a capital: an embedded struct, which JSON does not show
				path += "." + name
			}
		}
		return fmt.Errorf("%w: %s must not be a JSON %s", ErrNotCDEvent, path, wrong.Value)
	}
	return fmt.Errorf("%w: %s: %w", ErrNotCDEvent, path, err)
}

// parseTime reads an RFC 3339 time that can be written again, in UTC.
func parseTime(s string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no RFC 3339 time", s)
	}
	at = at.UTC()
	if y := at.Year(); y < 0 || y > 9999 {
		return time.Time{}, fmt.Errorf("%q is outside the years that RFC 3339 can write", s)
	}
	return at, nil
}

// StatedChain is the chain that a CDEvent's JSON itself states, as [DecodeBody] reads it: an envelope may name another
// one. It looks at nothing else of the body.
func StatedChain(body []byte) (string, error) {
	chain := ""
	err := members(body, func(name, value []byte) error {
		if string(name) != "context" {
			return nil
		}
		return members(value, func(name, value []byte) error {
			if string(name) != "chainId" {
				return nil
			}
			return text(&chain, value, "context.chainId")
		})
	})
	if err != nil {
		return "", unreadable(body, err)
	}
	return chain, nil
}

// DecodeBody reads the JSON of a CDEvent whose type the catalogue knows. It checks structure
// only; package schema judges it against the CDEvents schemas.
func DecodeBody(data []byte) (Event, error) {
	var t string
	err := members(data, func(name, value []byte) error {
		if string(name) != "context" {
			return nil
		}
		return members(value, func(name, value []byte) error {
			if string(name) != "type" {
				return nil
			}
			return text(&t, value, "context.type")
		})
	})
	if err != nil {
		return Event{}, unreadable(data, err)
	}
	if t == "" {
		return Event{}, fmt.Errorf("%w: context.type is missing", ErrNotCDEvent)
	}
	entry, err := entryOf(Type(t))
	if err != nil {
		return Event{}, err
	}
	var e Event
	if err := entry.decode(data, &e); err != nil {
		return Event{}, err
	}
	e.Phase = entry.Phase
	return e, nil
}

// entryOf finds the row of a type that is given in full.
func entryOf(t Type) (*Entry, error) {
	if entry, ok := catalogue[t]; ok {
		return entry, nil
	}
	if _, err := ParseType(string(t)); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w %q: it has to be given in full", ErrUnknownType, t)
}

package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// customKey is the member of customData that carries what Lemnis adds to a standard type.
const customKey = "lemnis"

// decodeInto reads a CDEvent's body into e, its content typed.
func decodeInto[T any](data []byte, e *Event) error {
	raw, err := e.readBody(data)
	if err != nil {
		return err
	}
	var content T
	if raw != nil {
		if err := json.Unmarshal(raw, &content); err != nil {
			return misfit("subject.content", err)
		}
	}
	if e.Custom != nil {
		if err := e.splitCustom(&content); err != nil {
			return err
		}
	}
	e.Content = content
	return nil
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

// AppendBody appends the CDEvent's JSON to dst.
func (e Event) AppendBody(dst []byte) ([]byte, error) {
	entry := byContent[reflect.TypeOf(e.Content)]
	if entry == nil {
		return nil, fmt.Errorf("events: no type is bound to content %T", e.Content)
	}
	if e.Type != "" && e.Type != entry.Type {
		return nil, fmt.Errorf("events: content %T is of type %s, not %s", e.Content, entry.Type, e.Type)
	}
	if y := e.Time.UTC().Year(); y < 0 || y > 9999 {
		return nil, fmt.Errorf("events: time %s is outside the years that RFC 3339 can write", e.Time)
	}
	content, err := json.Marshal(e.Content)
	if err != nil {
		return nil, fmt.Errorf("events: encode %s: %w", entry.Type, err)
	}
	dst = append(dst, `{"context":{"specversion":"`+SpecVersion+`","id":`...)
	dst = appendString(dst, e.ID)
	if e.Chain != "" {
		dst = append(dst, `,"chainId":`...)
		dst = appendString(dst, e.Chain)
	}
	dst = append(dst, `,"source":`...)
	dst = appendString(dst, e.Source)
	dst = append(dst, `,"type":`...)
	dst = appendString(dst, string(entry.Type))
	dst = append(dst, `,"timestamp":"`...)
	dst = e.Time.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, '"')
	if len(e.Links) > 0 {
		dst = append(dst, `,"links":[`...)
		for i, l := range e.Links {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = l.append(dst); err != nil {
				return nil, err
			}
		}
		dst = append(dst, ']')
	}
	if e.SchemaURI != "" {
		dst = append(dst, `,"schemaUri":`...)
		dst = appendString(dst, e.SchemaURI)
	}
	dst = append(dst, `},"subject":{"id":`...)
	dst = appendString(dst, e.SubjectID)
	if e.SubjectSource != "" {
		dst = append(dst, `,"source":`...)
		dst = appendString(dst, e.SubjectSource)
	}
	dst = append(dst, `,"content":`...)
	dst = append(dst, content...)
	dst = append(dst, '}')
	if dst, err = e.appendCustom(dst, entry); err != nil {
		return nil, err
	}
	return append(dst, '}'), nil
}

func (l Link) append(dst []byte) ([]byte, error) {
	dst = append(dst, `{"linkType":`...)
	dst = appendString(dst, string(l.Type))
	if l.Kind != "" {
		dst = append(dst, `,"linkKind":`...)
		dst = appendString(dst, l.Kind)
	}
	if l.Type == Relation {
		dst = append(dst, `,"target":{"contextId":`...)
	} else {
		dst = append(dst, `,"from":{"contextId":`...)
	}
	dst = appendString(dst, l.Context)
	dst = append(dst, `},"tags":`...)
	if len(l.Tags) == 0 {
		return append(dst, `{}}`...), nil
	}
	tags, err := json.Marshal(l.Tags)
	if err != nil {
		return nil, fmt.Errorf("events: encode a link's tags: %w", err)
	}
	return append(append(dst, tags...), '}'), nil
}

// appendCustom writes customData: what came with the event, and what Lemnis adds.
func (e Event) appendCustom(dst []byte, entry *Entry) ([]byte, error) {
	var extra []byte
	if entry.extra >= 0 {
		if f := reflect.ValueOf(e.Content).Field(entry.extra); !f.IsZero() {
			var err error
			if extra, err = json.Marshal(f.Interface()); err != nil {
				return nil, fmt.Errorf("events: encode customData of %s: %w", entry.Type, err)
			}
		}
	}
	mediaType, custom := e.CustomType, []byte(e.Custom)
	if len(custom) > 0 && !json.Valid(custom) {
		return nil, errors.New("events: customData is malformed JSON")
	}
	isObject := len(custom) > 0 && custom[0] == '{'
	if extra != nil && isObject {
		member, rest, err := cutMember(custom, customKey)
		if err != nil {
			return nil, fmt.Errorf("events: customData: %w", err)
		}
		if member != nil {
			custom = rest
		}
	}
	switch {
	case extra == nil && len(custom) == 0:
		return dst, nil
	case extra == nil:
		dst = append(dst, `,"customData":`...)
		dst = append(dst, custom...)
	case isObject && len(custom) > 0:
		dst = append(append(dst, `,"customData":{"lemnis":`...), extra...)
		if rest := bytes.TrimLeft(custom[1:], " \n\t\r"); rest[0] != '}' {
			dst = append(dst, ',')
		}
		dst = append(dst, custom[1:]...)
	default:
		// customData that is no object has no room for more; what Lemnis adds is what it decides by.
		dst = append(dst, `,"customData":{"lemnis":`...)
		dst = append(append(dst, extra...), '}')
		mediaType = contentTypeJSON
	}
	if mediaType == "" {
		return dst, nil
	}
	dst = append(dst, `,"customDataContentType":`...)
	return appendString(dst, mediaType), nil
}

// appendString appends s as a JSON string.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, err := json.Marshal(s)
			if err != nil { // a string always encodes
				return strconv.AppendQuote(dst, s)
			}
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

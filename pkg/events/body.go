package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"
)

// customKey is the member of customData that carries what Lemnis adds to a standard type.
const customKey = "lemnis"

type reference struct {
	ContextID string `json:"contextId"`
}

type linkJSON struct {
	LinkType LinkType          `json:"linkType"`
	LinkKind string            `json:"linkKind,omitempty"`
	From     *reference        `json:"from,omitempty"`
	Target   *reference        `json:"target,omitempty"`
	Tags     map[string]string `json:"tags"` // never null: the schema wants an object
}

// decodeInto reads a CDEvent's body into e, typed and in one pass.
func decodeInto[T any](data []byte, e *Event) error {
	var b body[T]
	if err := json.Unmarshal(data, &b); err != nil {
		return fmt.Errorf("not a CDEvent: %w", err)
	}
	c := &b.Context
	switch {
	case c.ID == "":
		return errors.New("not a CDEvent: context.id is missing")
	case c.Source == "":
		return errors.New("not a CDEvent: context.source is missing")
	case b.Subject.ID == "":
		return errors.New("not a CDEvent: subject.id is missing")
	}
	at, err := time.Parse(time.RFC3339Nano, c.Timestamp)
	if err != nil {
		return fmt.Errorf("not a CDEvent: context.timestamp %q is no RFC 3339 time", c.Timestamp)
	}
	e.ID, e.Source, e.Type, e.Time, e.Chain = c.ID, c.Source, c.Type, at, c.ChainID
	e.SubjectID, e.SubjectSource = b.Subject.ID, b.Subject.Source
	for _, l := range c.Links {
		link := Link{Type: l.LinkType, Kind: l.LinkKind}
		if len(l.Tags) > 0 {
			link.Tags = l.Tags
		}
		if l.From != nil {
			link.Context = l.From.ContextID
		} else if l.Target != nil {
			link.Context = l.Target.ContextID
		}
		e.Links = append(e.Links, link)
	}
	if len(b.CustomData) > 0 && !bytes.Equal(b.CustomData, []byte("null")) {
		e.Custom, e.CustomType = b.CustomData, b.CustomDataType
		if err := decodeExtra(&b.Subject.Content, e); err != nil {
			return err
		}
	}
	e.Content = b.Subject.Content
	return nil
}

// decodeExtra moves customData.lemnis into the content's Lemnis field.
func decodeExtra(content any, e *Event) error {
	v := reflect.ValueOf(content).Elem()
	entry := byContent[v.Type()]
	if entry == nil || entry.extra < 0 || e.Custom[0] != '{' {
		return nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(e.Custom, &members); err != nil {
		return fmt.Errorf("not a CDEvent: customData: %w", err)
	}
	raw, ok := members[customKey]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, v.Field(entry.extra).Addr().Interface()); err != nil {
		return fmt.Errorf("customData.lemnis of %s: %w", entry.Type, err)
	}
	if len(members) == 1 {
		e.Custom, e.CustomType = nil, ""
		return nil
	}
	delete(members, customKey)
	rest, err := json.Marshal(members)
	e.Custom = rest
	return err
}

// DecodeBody reads the JSON of a CDEvent whose type the catalogue knows. It checks structure
// only; package schema judges it against the CDEvents schemas.
func DecodeBody(data []byte) (Event, error) {
	var head struct {
		Context struct {
			Type Type `json:"type"`
		} `json:"context"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return Event{}, fmt.Errorf("not a CDEvent: %w", err)
	}
	if head.Context.Type == "" {
		return Event{}, errors.New("not a CDEvent: context.type is missing")
	}
	entry, ok := catalogue[head.Context.Type]
	if !ok {
		_, err := ParseType(string(head.Context.Type))
		return Event{}, err
	}
	var e Event
	if err := entry.decode(data, &e); err != nil {
		return Event{}, err
	}
	e.Phase = entry.Phase
	return e, nil
}

// AppendBody appends the CDEvent's JSON to dst.
func (e Event) AppendBody(dst []byte) ([]byte, error) {
	entry := byContent[reflect.TypeOf(e.Content)]
	if entry == nil {
		return nil, fmt.Errorf("events: no type is bound to content %T", e.Content)
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
	mediaType := e.CustomType
	switch {
	case extra == nil && len(e.Custom) == 0:
		return dst, nil
	case extra == nil:
		dst = append(dst, `,"customData":`...)
		dst = append(dst, e.Custom...)
	case len(e.Custom) > 0 && e.Custom[0] == '{':
		var members map[string]json.RawMessage
		if err := json.Unmarshal(e.Custom, &members); err != nil {
			return nil, fmt.Errorf("events: customData: %w", err)
		}
		members[customKey] = extra
		all, err := json.Marshal(members)
		if err != nil {
			return nil, fmt.Errorf("events: customData: %w", err)
		}
		dst = append(append(dst, `,"customData":`...), all...)
	default:
		// customData that is no object has no room for more; what Lemnis adds is what it decides by.
		dst = append(dst, `,"customData":{"lemnis":`...)
		dst = append(append(dst, extra...), '}')
		mediaType = ""
	}
	if mediaType == "" {
		mediaType = "application/json"
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

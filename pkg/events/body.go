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

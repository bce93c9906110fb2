package mapping

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Event is a CloudEvent of any type that carries JSON, or nothing.
type Event struct {
	ID, Source, Type, Subject string
	Project, TraceParent      string
	Time                      time.Time // now when it says none

	attributes map[string]any // as they came
	data       any
	whole      []byte // in structured mode
}

// Structured reads an event in structured mode.
func Structured(text []byte) (Event, error) {
	v, err := decode(text)
	if err != nil {
		return Event{}, fmt.Errorf("%w: %w", events.ErrNoCloudEvent, err)
	}
	all, ok := v.(map[string]any)
	if !ok {
		return Event{}, fmt.Errorf("%w: it is no JSON object", events.ErrNoCloudEvent)
	}
	if all["data_base64"] != nil {
		return Event{}, fmt.Errorf("%w: its data is no JSON, which a mapping could read", events.ErrNoCloudEvent)
	}
	data := all["data"]
	delete(all, "data")
	return read(all, data, text)
}

// Binary reads an event in binary mode; attributes have no prefix, and are as they are meant.
func Binary(attributes map[string]string, body []byte) (Event, error) {
	all := make(map[string]any, len(attributes))
	whole := make(map[string]any, len(attributes)+1)
	for name, v := range attributes {
		all[name], whole[name] = v, v
	}
	var data any
	if len(body) > 0 {
		var err error
		if data, err = decode(body); err != nil {
			return Event{}, fmt.Errorf("%w: its data is no JSON: %w", events.ErrNoCloudEvent, err)
		}
		whole["data"] = json.RawMessage(body)
	}
	text, err := json.Marshal(whole)
	if err != nil {
		return Event{}, fmt.Errorf("%w: %w", events.ErrNoCloudEvent, err)
	}
	return read(all, data, text)
}

func read(all map[string]any, data any, whole []byte) (Event, error) {
	if v, _ := all["specversion"].(string); v != "1.0" {
		return Event{}, fmt.Errorf("%w 1.0: specversion is %v", events.ErrNoCloudEvent, all["specversion"])
	}
	e := Event{attributes: all, data: data, whole: whole, Time: time.Now()}
	for _, a := range []struct {
		name     string
		to       *string
		required bool
	}{{"id", &e.ID, true}, {"source", &e.Source, true}, {"type", &e.Type, true}, {"subject", &e.Subject, false}, {"project", &e.Project, false}, {"traceparent", &e.TraceParent, false}} {
		v, there := all[a.name]
		s, ok := v.(string)
		if there && !ok || a.required && s == "" {
			return Event{}, fmt.Errorf("%w: %s is missing or no text", events.ErrNoCloudEvent, a.name)
		}
		*a.to = s
	}
	if at, there := all["time"]; there {
		s, _ := at.(string)
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return Event{}, fmt.Errorf("%w: time %v is no RFC 3339 time", events.ErrNoCloudEvent, at)
		}
		e.Time = t
	}
	return e, nil
}

// Foreign reports whether a type is none of CDEvents, so that a mapping may take it.
func Foreign(eventType string) bool {
	return eventType != "" && !strings.HasPrefix(eventType, "dev.cdevents")
}

// variables are what expressions see.
func (e Event) variables() map[string]any {
	extensions := map[string]any{}
	for name, v := range e.attributes {
		switch name {
		case "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema":
		default:
			extensions[name] = v
		}
	}
	at, _ := e.attributes["time"].(string)
	return map[string]any{
		"id": e.ID, "source": e.Source, "type": e.Type, "subject": e.Subject, "time": at, "extensions": extensions, "data": e.data,
	}
}

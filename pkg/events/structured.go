package events

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// structured is a CloudEvent in structured mode, with Lemnis's extensions.
type structured struct {
	SpecVersion    string          `json:"specversion"`
	ID             string          `json:"id"`
	Source         string          `json:"source"`
	Type           Type            `json:"type"`
	Time           string          `json:"time,omitempty"`
	Subject        string          `json:"subject,omitempty"`
	ContentType    string          `json:"datacontenttype,omitempty"`
	Project        string          `json:"project,omitempty"`
	Phase          Phase           `json:"phase,omitempty"`
	Key            string          `json:"key,omitempty"`
	Aggregate      string          `json:"aggregate,omitempty"`
	Principal      string          `json:"principal,omitempty"`
	Cause          string          `json:"causationid,omitempty"`
	TraceParent    string          `json:"traceparent,omitempty"`
	Chain          string          `json:"chainid,omitempty"`
	CauseSequence  numeral         `json:"causesequence,omitempty"`
	ConfigRevision numeral         `json:"configrevision,omitempty"`
	Attempt        numeral         `json:"attempt,omitempty"`
	Deadline       string          `json:"deadline,omitempty"`
	Kind           string          `json:"kind,omitempty"`
	Sequence       numeral         `json:"sequence,omitempty"`     // a string, as the CloudEvents sequence extension has it
	RecordedTime   string          `json:"recordedtime,omitempty"` // the CloudEvents extension of that name
	Data           json.RawMessage `json:"data,omitempty"`
	DataBase64     []byte          `json:"data_base64,omitempty"`
}

// numeral is a whole number that CloudEvents leaves to be written as text or as a number.
type numeral string

// UnmarshalJSON reads "7" and 7.
func (n *numeral) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(n))
	}
	if string(b) != "null" {
		*n = numeral(b)
	}
	return nil
}

// kindNames are the words that people read for the kinds of subject.
var kindNames = map[Kind]string{Claim: "claim", Result: "result", Stated: "fact"}

// KindName is the word for a kind in structured events: "claim", "result", "fact".
func KindName(k Kind) string { return kindNames[k] }

// EncodeStructured renders the event as one JSON object, a CloudEvent in structured mode, with
// the extensions kind, sequence and recordedtime (when the stream stored it) when it was read from the stream.
func EncodeStructured(e Event) ([]byte, error) {
	data, err := e.AppendBody(nil)
	if err != nil {
		return nil, err
	}
	return EncodeStructuredWith(e, data)
}

// EncodeStructuredWith is [EncodeStructured] with the CDEvent's JSON given.
func EncodeStructuredWith(e Event, data []byte) ([]byte, error) {
	number := func(n uint64) numeral {
		if n == 0 {
			return ""
		}
		return numeral(strconv.FormatUint(n, 10))
	}
	t := e.Type
	if t == "" {
		t = TypeOf(e.Content)
	}
	s := structured{
		SpecVersion: "1.0", ID: e.ID, Source: e.Source, Type: t, Time: e.Time.UTC().Format(time.RFC3339Nano),
		Subject: e.SubjectID, ContentType: contentTypeJSON, Project: e.Project, Phase: e.Phase, Key: e.Key,
		Aggregate: e.Aggregate, Principal: e.Principal, Cause: e.Cause, TraceParent: e.TraceParent, Chain: e.Chain,
		CauseSequence: number(e.CauseSequence), ConfigRevision: number(e.ConfigRevision), Attempt: number(e.Attempt),
		Kind: kindNames[e.Kind], Sequence: number(e.Sequence), Data: data,
	}
	if !e.Deadline.IsZero() {
		s.Deadline = e.Deadline.UTC().Format(time.RFC3339Nano)
	}
	if !e.Stored.IsZero() {
		s.RecordedTime = e.Stored.UTC().Format(time.RFC3339Nano)
	}
	out, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("events: encode %s: %w", e.Type, err)
	}
	return out, nil
}

// DecodeStructured reads a CloudEvent in structured mode and the CDEvent within it. It returns
// the CDEvent's JSON beside the event, as it came; it may be a part of data.
func DecodeStructured(data []byte) (Event, []byte, error) {
	var s structured
	if s.scan(data) {
		if e, body, err := s.event(); err == nil {
			return e, body, nil
		}
	}
	s = structured{}
	if err := json.Unmarshal(data, &s); err != nil {
		return Event{}, nil, fmt.Errorf("%w: %w", ErrNoCloudEvent, err)
	}
	return s.event()
}

// event is the CDEvent within, under the envelope's attributes.
func (s *structured) event() (Event, []byte, error) {
	switch {
	case s.SpecVersion == "":
		return Event{}, nil, fmt.Errorf("%w: specversion is missing", ErrNoCloudEvent)
	case s.SpecVersion != "1.0":
		return Event{}, nil, fmt.Errorf("%w 1.0: specversion is %q", ErrNoCloudEvent, s.SpecVersion)
	case s.ID == "":
		return Event{}, nil, fmt.Errorf("%w: id is missing", ErrNoCloudEvent)
	case s.Source == "":
		return Event{}, nil, fmt.Errorf("%w: source is missing", ErrNoCloudEvent)
	case s.Type == "":
		return Event{}, nil, fmt.Errorf("%w: type is missing", ErrNoCloudEvent)
	}
	cdevent := []byte(s.Data)
	if cdevent == nil {
		cdevent = s.DataBase64
	}
	if len(cdevent) == 0 {
		return Event{}, nil, fmt.Errorf("%w: the CloudEvent has no data", ErrNotCDEvent)
	}
	e, err := decodeEnvelope(s.Type, s.ID, cdevent, s.header)
	if err != nil {
		return Event{}, nil, err
	}
	for k, name := range kindNames {
		if name == s.Kind {
			e.Kind = k
		}
	}
	if s.Sequence != "" {
		if e.Sequence, err = strconv.ParseUint(string(s.Sequence), 10, 64); err != nil {
			return Event{}, nil, fmt.Errorf("%w: sequence %q is no number", ErrNoCloudEvent, s.Sequence)
		}
	}
	if s.RecordedTime != "" {
		if e.Stored, err = time.Parse(time.RFC3339Nano, s.RecordedTime); err != nil {
			return Event{}, nil, fmt.Errorf("%w: recordedtime %q is no RFC 3339 time", ErrNoCloudEvent, s.RecordedTime)
		}
	}
	return e, cdevent, nil
}

// header is the attribute that binary mode has as this header.
func (s *structured) header(name string) string {
	switch name {
	case headerPhase:
		return string(s.Phase)
	case headerProject:
		return s.Project
	case headerKey:
		return s.Key
	case headerAggregate:
		return s.Aggregate
	case headerPrincipal:
		return s.Principal
	case headerCause:
		return s.Cause
	case headerTraceParent:
		return s.TraceParent
	case headerChain:
		return s.Chain
	case headerCauseSequence:
		return string(s.CauseSequence)
	case headerConfigRevision:
		return string(s.ConfigRevision)
	case headerAttempt:
		return string(s.Attempt)
	case headerDeadline:
		return s.Deadline
	}
	return ""
}

// decodeEnvelope reads a CDEvent and holds the envelope's word against it.
func decodeEnvelope(t Type, id string, cdevent []byte, get func(string) string) (Event, error) {
	entry, err := entryOf(t)
	if err != nil {
		return Event{}, err
	}
	e := Event{}
	if err := entry.decode(cdevent, &e); err != nil {
		return Event{}, err
	}
	if e.Type != t {
		return Event{}, fmt.Errorf("%w: its type is %q, the CloudEvent's %q", ErrNotCDEvent, e.Type, t)
	}
	if e.ID != id {
		return Event{}, fmt.Errorf("%w: its id is %q, the CloudEvent's %q", ErrNotCDEvent, e.ID, id)
	}
	e.Phase = entry.Phase
	if err := e.readHeaders(get); err != nil {
		return Event{}, err
	}
	return e, nil
}

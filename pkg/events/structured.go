package events

import (
	"bytes"
	"encoding/json"
	"errors"
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
	CauseSequence  string          `json:"causesequence,omitempty"`
	ConfigRevision string          `json:"configrevision,omitempty"`
	Attempt        string          `json:"attempt,omitempty"`
	Deadline       string          `json:"deadline,omitempty"`
	Kind           string          `json:"kind,omitempty"`
	Sequence       string          `json:"sequence,omitempty"` // a string, as the CloudEvents sequence extension has it
	Data           json.RawMessage `json:"data,omitempty"`
	DataBase64     []byte          `json:"data_base64,omitempty"`
}

// kindNames are the words that people read for the kinds of subject.
var kindNames = map[Kind]string{Claim: "claim", Result: "result", Stated: "fact"}

// KindName is the word for a kind in structured events: "claim", "result", "fact".
func KindName(k Kind) string { return kindNames[k] }

// EncodeStructured renders the event as one JSON object, a CloudEvent in structured mode, with
// the extensions kind and sequence when it was read from the stream.
func EncodeStructured(e Event) ([]byte, error) {
	data, err := e.AppendBody(nil)
	if err != nil {
		return nil, err
	}
	return EncodeStructuredWith(e, data)
}

// EncodeStructuredWith is [EncodeStructured] with the CDEvent's JSON given.
func EncodeStructuredWith(e Event, data []byte) ([]byte, error) {
	number := func(n uint64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatUint(n, 10)
	}
	s := structured{
		SpecVersion: "1.0", ID: e.ID, Source: e.Source, Type: e.Type, Time: e.Time.UTC().Format(time.RFC3339Nano),
		Subject: e.SubjectID, ContentType: contentTypeJSON, Project: e.Project, Phase: e.Phase, Key: e.Key,
		Aggregate: e.Aggregate, Principal: e.Principal, Cause: e.Cause, TraceParent: e.TraceParent, Chain: e.Chain,
		CauseSequence: number(e.CauseSequence), ConfigRevision: number(e.ConfigRevision), Attempt: number(e.Attempt),
		Kind: kindNames[e.Kind], Sequence: number(e.Sequence), Data: data,
	}
	if !e.Deadline.IsZero() {
		s.Deadline = e.Deadline.UTC().Format(time.RFC3339Nano)
	}
	out, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("events: encode %s: %w", e.Type, err)
	}
	return out, nil
}

// DecodeStructured reads a CloudEvent in structured mode and the CDEvent within it. It returns
// the CDEvent's JSON beside the event, as it came.
func DecodeStructured(data []byte) (Event, []byte, error) {
	var s structured
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&s); err != nil {
		return Event{}, nil, fmt.Errorf("no CloudEvent: %w", err)
	}
	switch {
	case s.SpecVersion == "":
		return Event{}, nil, errors.New("no CloudEvent: specversion is missing")
	case s.SpecVersion != "1.0":
		return Event{}, nil, fmt.Errorf("no CloudEvent 1.0: specversion is %q", s.SpecVersion)
	case s.ID == "":
		return Event{}, nil, errors.New("no CloudEvent: id is missing")
	case s.Source == "":
		return Event{}, nil, errors.New("no CloudEvent: source is missing")
	case s.Type == "":
		return Event{}, nil, errors.New("no CloudEvent: type is missing")
	}
	cdevent := []byte(s.Data)
	if cdevent == nil {
		cdevent = s.DataBase64
	}
	if len(cdevent) == 0 {
		return Event{}, nil, errors.New("not a CDEvent: the CloudEvent has no data")
	}
	h := map[string]string{
		headerPhase: string(s.Phase), headerProject: s.Project, headerKey: s.Key, headerAggregate: s.Aggregate,
		headerPrincipal: s.Principal, headerCause: s.Cause, headerTraceParent: s.TraceParent, headerChain: s.Chain,
		headerCauseSequence: s.CauseSequence, headerConfigRevision: s.ConfigRevision, headerAttempt: s.Attempt, headerDeadline: s.Deadline,
	}
	e, err := decodeEnvelope(s.Type, s.ID, cdevent, func(name string) string { return h[name] })
	if err != nil {
		return Event{}, nil, err
	}
	for k, name := range kindNames {
		if name == s.Kind {
			e.Kind = k
		}
	}
	if s.Sequence != "" {
		if e.Sequence, err = strconv.ParseUint(s.Sequence, 10, 64); err != nil {
			return Event{}, nil, fmt.Errorf("sequence %q is no number", s.Sequence)
		}
	}
	return e, cdevent, nil
}

// decodeEnvelope reads a CDEvent and holds the envelope's word against it.
func decodeEnvelope(t Type, id string, cdevent []byte, get func(string) string) (Event, error) {
	entry, ok := catalogue[t]
	if !ok {
		if _, err := ParseType(string(t)); err != nil {
			return Event{}, err
		}
		return Event{}, fmt.Errorf("event type %q has to be given in full", t)
	}
	e := Event{}
	if err := entry.decode(cdevent, &e); err != nil {
		return Event{}, err
	}
	if e.Type != t {
		return Event{}, fmt.Errorf("the CloudEvent says type %q, its CDEvent %q", t, e.Type)
	}
	if e.ID != id {
		return Event{}, fmt.Errorf("the CloudEvent says id %q, its CDEvent %q", id, e.ID)
	}
	e.Phase = entry.Phase
	return e, e.readHeaders(get)
}

package events

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Names of the CloudEvents attributes as NATS headers (binary content mode). The extensions
// are Lemnis's own; every name obeys CloudEvents: lower-case letters and digits, at most 20.
const (
	headerSpecVersion    = "ce-specversion"
	headerID             = "ce-id"
	headerSource         = "ce-source"
	headerType           = "ce-type"
	headerTime           = "ce-time"
	headerSubject        = "ce-subject"
	headerProject        = "ce-project"
	headerPhase          = "ce-phase"
	headerKey            = "ce-key"
	headerAggregate      = "ce-aggregate"
	headerPrincipal      = "ce-principal"
	headerCause          = "ce-causationid"
	headerTraceParent    = "ce-traceparent"
	headerChain          = "ce-chainid"
	headerCauseSequence  = "ce-causesequence"
	headerConfigRevision = "ce-configrevision"
	headerAttempt        = "ce-attempt"
	headerDeadline       = "ce-deadline"
	headerContentType    = "content-type"

	contentTypeJSON = "application/json"
	prefixCE        = "ce-"
)

// Encode renders the event as a NATS message in CloudEvents binary mode: attributes as headers,
// the CDEvent as JSON body. The subject is left to the caller ([Event.Subject]).
func Encode(e Event) (*nats.Msg, error) {
	data, err := e.AppendBody(make([]byte, 0, 768))
	if err != nil {
		return nil, err
	}
	return EncodeWith(e, data), nil
}

// EncodeWith is [Encode] with the body given, so that what came in is kept to the byte.
func EncodeWith(e Event, data []byte) *nats.Msg {
	h := make(nats.Header, 18)
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{escapeHeader(value)}
		}
	}
	number := func(name string, n uint64) {
		if n != 0 {
			h[name] = []string{strconv.FormatUint(n, 10)}
		}
	}
	h[headerSpecVersion] = []string{"1.0"}
	set(headerID, e.ID)
	set(headerSource, e.Source)
	set(headerType, string(e.Type))
	h[headerTime] = []string{e.Time.UTC().Format(time.RFC3339Nano)}
	set(headerSubject, e.SubjectID)
	set(headerProject, e.Project)
	set(headerPhase, string(e.Phase))
	set(headerKey, e.Key)
	set(headerAggregate, e.Aggregate)
	set(headerPrincipal, e.Principal)
	set(headerCause, e.Cause)
	set(headerTraceParent, e.TraceParent)
	set(headerChain, e.Chain)
	number(headerCauseSequence, e.CauseSequence)
	number(headerConfigRevision, e.ConfigRevision)
	number(headerAttempt, e.Attempt)
	if !e.Deadline.IsZero() {
		h[headerDeadline] = []string{e.Deadline.UTC().Format(time.RFC3339Nano)}
	}
	h[headerContentType] = []string{contentTypeJSON}
	return &nats.Msg{Header: h, Data: data}
}

// Decode reads a NATS message in CloudEvents binary mode. It checks structure only.
func Decode(h nats.Header, data []byte) (Event, error) {
	t := Type(header(h, headerType))
	if t == "" {
		return Event{}, errors.New("no CloudEvent: header ce-type is missing")
	}
	if header(h, headerID) == "" {
		return Event{}, errors.New("no CloudEvent: header ce-id is missing")
	}
	return decodeEnvelope(t, header(h, headerID), data, func(name string) string { return header(h, name) })
}

// readHeaders takes over the envelope's attributes that the body does not have.
func (e *Event) readHeaders(get func(string) string) error {
	if p := Phase(get(headerPhase)); p != "" {
		if !p.Valid() {
			return fmt.Errorf("phase %q is none of plan, develop, integrate, deploy, operate, learn", p)
		}
		e.Phase = p
	}
	e.Project, e.Key, e.Aggregate = get(headerProject), get(headerKey), get(headerAggregate)
	e.Principal, e.Cause, e.TraceParent = get(headerPrincipal), get(headerCause), get(headerTraceParent)
	if chain := get(headerChain); chain != "" {
		e.Chain = chain // the gateway gives one to a claim that came without
	}
	if e.Key == "" {
		e.Key = e.SubjectID
	}
	numbers := [...]struct {
		name string
		to   *uint64
	}{{headerCauseSequence, &e.CauseSequence}, {headerConfigRevision, &e.ConfigRevision}, {headerAttempt, &e.Attempt}}
	for _, n := range numbers {
		if v := get(n.name); v != "" {
			parsed, err := strconv.ParseUint(v, 10, 64)
			if err != nil {
				return fmt.Errorf("%s %q is no number", strings.TrimPrefix(n.name, prefixCE), v)
			}
			*n.to = parsed
		}
	}
	if v := get(headerDeadline); v != "" {
		at, err := time.Parse(time.RFC3339Nano, v)
		if err != nil {
			return fmt.Errorf("deadline %q is no RFC 3339 time", v)
		}
		e.Deadline = at
	}
	return nil
}

func header(h nats.Header, name string) string {
	v := h[name]
	if len(v) == 0 {
		return ""
	}
	if strings.IndexByte(v[0], '%') < 0 {
		return v[0]
	}
	if s, err := url.PathUnescape(v[0]); err == nil {
		return s
	}
	return v[0]
}

// escapeHeader percent-encodes what the CloudEvents header rules ask for: everything outside
// printable ASCII, space, double quote and percent.
func escapeHeader(s string) string {
	clean := true
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '%' {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '%' {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

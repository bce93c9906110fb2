package events

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

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
	msg := &nats.Msg{Header: make(nats.Header, attributeCount), Data: data}
	e.setHeaders(msg.Header, make([]string, 0, attributeCount))
	return msg
}

// Encoder encodes one event after the other into the same memory. Its zero value is ready.
type Encoder struct {
	msg    nats.Msg
	values []string
}

// Encode is [Encode] into a message that is the caller's until the next call. It may add headers; nats.go has copied all when
// its PublishMsg returns.
func (enc *Encoder) Encode(e Event) (*nats.Msg, error) {
	header, data := enc.msg.Header, enc.msg.Data
	if header == nil {
		header, enc.values = make(nats.Header, attributeCount+headersOfTheBus), make([]string, 0, attributeCount)
		data = make([]byte, 0, 768)
	}
	clear(header)
	data, err := e.AppendBody(data[:0])
	if err != nil {
		return nil, err
	}
	e.setHeaders(header, enc.values)
	enc.msg = nats.Msg{Header: header, Data: data}
	return &enc.msg, nil
}

// headersOfTheBus is room for what a publisher adds: the message's id, and the place that it expects.
const headersOfTheBus = 3

// setHeaders sets the event's attributes; values is the memory behind them.
func (e *Event) setHeaders(h nats.Header, values []string) {
	values = values[:0]
	e.attributes(func(name, value string) {
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	})
}

// attributeCount is the largest number of attributes, and so of headers, that an event has.
const attributeCount = 19

// attributes calls set for each attribute that the event has, with its name and its escaped
// value as a header.
func (e *Event) attributes(set func(name, value string)) {
	word := func(name, value string) {
		if value != "" {
			set(name, escapeHeader(value))
		}
	}
	number := func(name string, n uint64) {
		if n != 0 {
			set(name, strconv.FormatUint(n, 10))
		}
	}
	t := e.Type
	if t == "" {
		t = TypeOf(e.Content)
	}
	set(headerSpecVersion, "1.0")
	word(headerID, e.ID)
	word(headerSource, e.Source)
	word(headerType, string(t))
	set(headerTime, e.Time.UTC().Format(time.RFC3339Nano))
	word(headerSubject, e.SubjectID)
	word(headerProject, e.Project)
	word(headerPhase, string(e.Phase))
	word(headerKey, e.Key)
	word(headerAggregate, e.Aggregate)
	word(headerPrincipal, e.Principal)
	word(headerCause, e.Cause)
	word(headerTraceParent, e.TraceParent)
	word(headerChain, e.Chain)
	number(headerCauseSequence, e.CauseSequence)
	number(headerConfigRevision, e.ConfigRevision)
	number(headerAttempt, e.Attempt)
	if !e.Deadline.IsZero() {
		set(headerDeadline, e.Deadline.UTC().Format(time.RFC3339Nano))
	}
	set(headerContentType, contentTypeJSON)
}

// Decode reads a NATS message in CloudEvents binary mode. It checks structure only.
func Decode(h nats.Header, data []byte) (Event, error) {
	return decodeBinary(func(name string) string { return header(h, name) }, data)
}

// decodeBinary reads an event in binary mode; get finds an attribute by its header.
func decodeBinary(get func(name string) string, data []byte) (Event, error) {
	var spec, id, source, t = get(headerSpecVersion), get(headerID), get(headerSource), get(headerType)
	switch {
	case t == "":
		return Event{}, fmt.Errorf("%w: header ce-type is missing", ErrNoCloudEvent)
	case spec == "":
		return Event{}, fmt.Errorf("%w: header ce-specversion is missing", ErrNoCloudEvent)
	case spec != "1.0":
		return Event{}, fmt.Errorf("%w 1.0: header ce-specversion is %q", ErrNoCloudEvent, spec)
	case id == "":
		return Event{}, fmt.Errorf("%w: header ce-id is missing", ErrNoCloudEvent)
	case source == "":
		return Event{}, fmt.Errorf("%w: header ce-source is missing", ErrNoCloudEvent)
	}
	return decodeEnvelope(Type(t), id, data, get)
}

// readHeaders takes over the envelope's attributes that the body does not have.
func (e *Event) readHeaders(get func(string) string) error {
	if p := Phase(get(headerPhase)); p != "" {
		if !p.Valid() {
			return fmt.Errorf("%w: phase %q is none of plan, develop, integrate, deploy, operate, learn", ErrNoCloudEvent, p)
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
	for _, s := range [...]string{e.Project, e.Key, e.Aggregate, e.Principal, e.Cause, e.TraceParent, e.Chain} {
		if !utf8.ValidString(s) {
			return fmt.Errorf("%w: an attribute is no UTF-8: %q", ErrNoCloudEvent, s)
		}
	}
	numbers := [...]struct {
		name string
		to   *uint64
	}{{headerCauseSequence, &e.CauseSequence}, {headerConfigRevision, &e.ConfigRevision}, {headerAttempt, &e.Attempt}}
	for _, n := range numbers {
		if v := get(n.name); v != "" {
			parsed, err := strconv.ParseUint(v, 10, 64)
			if err != nil {
				return fmt.Errorf("%w: %s %q is no number", ErrNoCloudEvent, strings.TrimPrefix(n.name, prefixCE), v)
			}
			*n.to = parsed
		}
	}
	if v := get(headerDeadline); v != "" {
		at, err := parseTime(v)
		if err != nil {
			return fmt.Errorf("%w: deadline %w", ErrNoCloudEvent, err)
		}
		e.Deadline = at
	}
	return nil
}

func header(h nats.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return unescapeHeader(v[0])
	}
	return ""
}

// unescapeHeader undoes percent-encoding; what is no encoding stands for itself.
func unescapeHeader(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	if decoded, err := url.PathUnescape(s); err == nil {
		return decoded
	}
	return s
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

package events

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/nats-io/nats.go"
)

const (
	contentTypeStructured = "application/cloudevents+json"
	contentTypeBatch      = "application/cloudevents-batch+json"
)

// Decoded is one event of a request and the verdict on it.
type Decoded struct {
	Event Event
	Body  []byte // the CDEvent's JSON, as it came
	Err   error  // nil, or what is wrong with this event; then Event and Body are zero
}

// DecodeHTTP reads the CloudEvents of an HTTP request or response in binary, structured or batch
// mode. The error is about the request as a whole; each event has its own in [Decoded]. An empty
// batch has no events and no error. It checks structure only.
func DecodeHTTP(header http.Header, body []byte) ([]Decoded, error) {
	contentType := header.Get("Content-Type")
	mediaType, err := mediaType(contentType)
	if err != nil {
		return nil, err
	}
	switch mode := modeOf(mediaType); mode {
	case structuredMode:
		return []Decoded{decodedStructured(body)}, nil
	case batchMode:
		var batch []json.RawMessage
		if err := json.Unmarshal(body, &batch); err != nil {
			return nil, fmt.Errorf("%w: a batch is a JSON array of events: %w", ErrNoCloudEvent, err)
		}
		out := make([]Decoded, len(batch))
		for i, one := range batch {
			out[i] = decodedStructured(one)
		}
		return out, nil
	case unsupportedMode:
		return nil, fmt.Errorf("%w: the format %s is not supported; send %s", ErrNoCloudEvent, mediaType, contentTypeStructured)
	}
	if header.Get(headerType) == "" {
		return nil, fmt.Errorf("%w: neither a header ce-type nor the content type %s", ErrNoCloudEvent, contentTypeStructured)
	}
	if mediaType != "" && mediaType != contentTypeJSON && !strings.HasSuffix(mediaType, "+json") {
		return nil, fmt.Errorf("%w: its content type is %s, not %s", ErrNotCDEvent, mediaType, contentTypeJSON)
	}
	one := Decoded{Body: body}
	one.Event, one.Err = decodeBinary(func(name string) string { return unescapeHeader(unquoteHeader(header.Get(name))) }, body)
	if one.Err != nil {
		one.Body = nil
	}
	return []Decoded{one}, nil
}

func decodedStructured(data []byte) Decoded {
	e, body, err := DecodeStructured(data)
	if err != nil {
		return Decoded{Err: err}
	}
	return Decoded{e, body, nil}
}

// Attributes are the CloudEvents attributes of an HTTP request's or a NATS message's headers in binary mode, whatever type the
// event has: by their names without "ce-", in lower case, their values decoded; the content type is not among them. Of a
// header that is there several times the first counts, of two that differ in case the one in lower case.
func Attributes(header map[string][]string) map[string]string {
	all := make(map[string]string, len(header))
	for name, values := range header {
		lower := strings.ToLower(name)
		if !strings.HasPrefix(lower, prefixCE) || len(values) == 0 {
			continue
		}
		attribute := lower[len(prefixCE):]
		if _, there := all[attribute]; name == lower || name == http.CanonicalHeaderKey(lower) && !there {
			all[attribute] = unescapeHeader(unquoteHeader(values[0]))
		}
	}
	return all
}

// EncodeHTTP renders the event for HTTP in binary mode: attributes as headers, the CDEvent as
// JSON body.
func EncodeHTTP(e Event) (http.Header, []byte, error) {
	body, err := e.AppendBody(make([]byte, 0, 768))
	if err != nil {
		return nil, nil, err
	}
	header := make(http.Header, attributeCount)
	e.attributes(header.Set)
	return header, body, nil
}

// DecodeMessage reads a NATS message in binary or, by its content type, in structured mode; a
// message without headers is taken to be structured. It returns the CDEvent's JSON beside the
// event, as it came. It checks structure only.
func DecodeMessage(h nats.Header, data []byte) (Event, []byte, error) {
	contentType := ""
	for name, values := range h {
		if strings.EqualFold(name, headerContentType) && len(values) > 0 {
			contentType = values[0]
		}
	}
	mediaType, err := mediaType(contentType)
	if err != nil {
		return Event{}, nil, err
	}
	mode := modeOf(mediaType)
	if mode == binaryMode && header(h, headerType) == "" && (contentType == "" || mediaType == contentTypeJSON) {
		mode = structuredMode
	}
	switch mode {
	case structuredMode:
		return DecodeStructured(data)
	case binaryMode:
		e, err := Decode(h, data)
		if err != nil {
			return Event{}, nil, err
		}
		return e, data, nil
	}
	return Event{}, nil, fmt.Errorf("%w: a NATS message in the format %s is not supported; send %s", ErrNoCloudEvent, mediaType, contentTypeStructured)
}

type contentMode int

const (
	binaryMode contentMode = iota
	structuredMode
	batchMode
	unsupportedMode
)

func modeOf(mediaType string) contentMode {
	switch {
	case mediaType == contentTypeStructured:
		return structuredMode
	case mediaType == contentTypeBatch:
		return batchMode
	case strings.HasPrefix(mediaType, "application/cloudevents"):
		return unsupportedMode
	}
	return binaryMode
}

func mediaType(contentType string) (string, error) {
	if contentType == "" {
		return "", nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return "", fmt.Errorf("%w: content type %q is malformed", ErrNoCloudEvent, contentType)
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return "", fmt.Errorf("%w: charset %s is not supported; JSON is UTF-8", ErrNoCloudEvent, charset)
	}
	return media, nil
}

// unquoteHeader takes the quotes off a header value that came as a quoted string.
func unquoteHeader(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '\\' && i+1 < len(s)-1 {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

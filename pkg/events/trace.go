package events

import (
	"crypto/sha256"
	"encoding/hex"
)

// TraceID is the W3C trace id of a chain: the first 16 bytes of SHA-256 of its project, a slash, and the chain's id. So
// everybody knows the trace of a chain without being told.
func TraceID(project, chain string) [16]byte {
	var buf [320]byte
	b := append(buf[:0], project...)
	b = append(b, '/')
	sum := sha256.Sum256(append(b, chain...))
	return [16]byte(sum[:16])
}

// SpanID is the W3C id of the span that made an event: the first 8 bytes of SHA-256 of the event's id. So a fact's span is
// the child of its cause's, whoever made either.
func SpanID(event string) [8]byte {
	var buf [320]byte
	sum := sha256.Sum256(append(buf[:0], event...))
	return [8]byte(sum[:8])
}

// TraceContext is the extension traceparent of an event of a chain, by its id.
func TraceContext(project, chain, event string) string {
	trace, span := TraceID(project, chain), SpanID(event)
	var out [55]byte
	copy(out[:], "00-")
	hex.Encode(out[3:35], trace[:])
	out[35] = '-'
	hex.Encode(out[36:52], span[:])
	copy(out[52:], "-01")
	return string(out[:])
}

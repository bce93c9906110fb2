package subscription

import (
	"context"
	"net/http"
	"time"
)

const userAgent = "Lemnis"

// delivery is one try to push a fact.
func (w *worker) delivery(ctx context.Context, i *item) outcome {
	s := &w.record.Spec
	h := make(http.Header, 24)
	var body []byte
	if s.Settings.ContentMode == structured {
		var err error
		if body, err = i.structuredMode(); err != nil {
			return outcome{verdict: refused, reason: "the event has no structured form: " + err.Error()}
		}
		h["Content-Type"] = []string{"application/cloudevents+json"}
	} else {
		var attributes http.Header
		attributes, body = i.binaryMode()
		for name, values := range attributes {
			h[name] = values
		}
	}
	for name, value := range s.Settings.Headers {
		h.Set(name, value)
	}
	id := i.attributes["id"]
	at, signature := sign(w.key, id, time.Now(), body)
	h["User-Agent"] = []string{userAgent}
	h[HeaderID], h[HeaderTimestamp], h[HeaderSignature] = []string{id}, []string{at}, []string{signature}
	began := time.Now()
	status, answer, err := w.clients.do(ctx, w.patience.Timeout, http.MethodPost, s.Sink, h, body)
	o := judge(status, answer, err, time.Now())
	w.host.Trace.Delivery(i.project, i.attributes["chainid"], id, w.record.Spec.ID, began, o.reason)
	return o
}

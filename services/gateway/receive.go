package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/access"
)

const (
	bodyTimeout    = 30 * time.Second // for a body to arrive
	mostStructured = 2 << 20          // the envelope and base64 take more than the event
	mostBatch      = 8 << 20
	mostInBatch    = 1000
	longestWait    = 60 * time.Second
)

// receive answers POST /events.
func (g *Gateway) receive(w http.ResponseWriter, r *http.Request) {
	mode, err := contentMode(r.Header)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	most := int64(natsd.MaxEvent)
	switch mode {
	case "application/cloudevents+json":
		most = mostStructured
	case batchMode:
		most = mostBatch
	}
	body, err := readBody(w, r, most)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	decoded, err := events.DecodeHTTP(r.Header, body)
	if err != nil {
		g.fail(w, r, badEvent(err))
		return
	}
	if mode == batchMode {
		g.receiveBatch(w, r, body, decoded)
		return
	}
	if len(decoded) != 1 {
		g.fail(w, r, refuse(http.StatusBadRequest, "%v", events.ErrNoCloudEvent))
		return
	}
	g.mapped(r, mode, body, decoded)
	one := decoded[0]
	if one.Err != nil {
		g.fail(w, r, badEvent(one.Err))
		return
	}
	if one.Event.TraceParent == "" {
		one.Event.TraceParent = r.Header.Get("Traceparent")
	}
	c, err := g.door.admit(r.Context(), access.From(r.Context()).Principal, one.Event, one.Body)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	g.answerClaim(w, r, c)
}

const batchMode = "application/cloudevents-batch+json"

// contentMode is the media type, after what no event can be sent in was refused.
func contentMode(h http.Header) (string, error) {
	for name, values := range h {
		if len(values) > 1 && (strings.HasPrefix(strings.ToLower(name), "ce-") || name == "Content-Type") {
			return "", refuse(http.StatusBadRequest, "the header %s is there %d times", quote(name), len(values))
		}
	}
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return "", refuse(http.StatusUnsupportedMediaType, "the content encoding %s is not supported; send the body as it is", quote(encoding))
	}
	contentType := h.Get("Content-Type")
	media, _, err := mime.ParseMediaType(contentType)
	if contentType != "" && err != nil {
		return "", refuse(http.StatusBadRequest, "%v: the content type %s is malformed", events.ErrNoCloudEvent, quote(contentType))
	}
	switch {
	case strings.HasPrefix(media, "application/cloudevents"):
		if media != "application/cloudevents+json" && media != batchMode {
			return "", refuse(http.StatusUnsupportedMediaType, "the event format %s is not supported; send application/cloudevents+json", media)
		}
	case h.Get("Ce-Type") != "" && media != "" && media != "application/json" && !strings.HasSuffix(media, "+json"):
		return "", refuse(http.StatusUnsupportedMediaType, "%v: its content type is %s, not application/json", events.ErrNotCDEvent, media)
	}
	return media, nil
}

// readBody reads a body up to a size, within a time.
func readBody(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))    // not every server has deadlines
	defer func() { _ = control.SetReadDeadline(time.Time{}) }() // or a long wait for an answer would end by it
	if r.ContentLength > most {
		return nil, tooLarge()
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, tooLarge()
	}
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the body did not arrive whole")
	}
	return body, nil
}

// batchAnswer is what became of one event of a batch.
type batchAnswer struct {
	Status int `json:"status"`
	*receipt
	Detail string `json:"detail,omitempty"`
}

// receiveBatch takes the events one after the other, each on its own, until the bus is away: what follows then would wait as long as
// that one did, and is not tried. The status is theirs when all agree, else 207.
func (g *Gateway) receiveBatch(w http.ResponseWriter, r *http.Request, body []byte, decoded []events.Decoded) {
	if len(decoded) > mostInBatch {
		g.fail(w, r, refuse(http.StatusRequestEntityTooLarge, "the batch has %d events; %d at most", len(decoded), mostInBatch))
		return
	}
	g.mapped(r, batchMode, body, decoded)
	status := http.StatusAccepted
	answers := make([]batchAnswer, len(decoded))
	away := false
	for i, d := range decoded {
		if away {
			answers[i] = answers[i-1]
		} else {
			answers[i] = g.receiveOne(r, d)
		}
		switch {
		case i == 0:
			status = answers[i].Status
		case status != answers[i].Status:
			status = http.StatusMultiStatus
		}
		if answers[i].Status == http.StatusServiceUnavailable {
			away = true
			w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		}
	}
	g.write(w, status, "application/json", answers)
}

func (g *Gateway) receiveOne(r *http.Request, d events.Decoded) batchAnswer {
	var got receipt
	err := d.Err
	if err != nil {
		err = badEvent(err)
	} else {
		var c claim
		if c, err = g.door.admit(r.Context(), access.From(r.Context()).Principal, d.Event, d.Body); err == nil {
			got, err = g.put(r.Context(), c)
		}
	}
	if err == nil {
		return batchAnswer{Status: http.StatusAccepted, receipt: &got}
	}
	p, known := problemOf(err)
	if !known {
		g.logRequest(r, err)
	}
	g.metrics.refused(p.Status)
	return batchAnswer{Status: p.Status, Detail: p.Detail}
}

// answerClaim puts a claim on the stream and answers with its receipt, or, when the client wants to wait, with what it
// caused: 200 for a fact, 409 for a refusal, 202 when neither came in time.
func (g *Gateway) answerClaim(w http.ResponseWriter, r *http.Request, c claim) {
	wait := waitOf(r.Header)
	var s *waiter
	if wait > 0 {
		w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
		begin, cancel := context.WithTimeout(r.Context(), beginTimeout)
		var err error
		s, err = g.live.wait(begin, func(e *events.Event) bool {
			return e.Kind == events.Stated && e.Project == c.event.Project && e.CauseSequence > 0
		})
		cancel()
		if err != nil {
			g.fail(w, r, errAway)
			return
		}
		defer g.live.forget(s)
	}
	got, err := g.put(r.Context(), c)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	if wait == 0 {
		g.write(w, http.StatusAccepted, "application/json", got)
		return
	}
	answer, refused := g.await(r.Context(), s, got, wait)
	if answer == nil {
		g.write(w, http.StatusAccepted, "application/json", got)
		return
	}
	status := http.StatusOK
	if refused {
		status = http.StatusConflict
	}
	g.write(w, status, "application/json", struct {
		Claim  receipt         `json:"claim"`
		Answer json.RawMessage `json:"answer"`
	}{got, answer})
}

// await waits for the first fact that a claim causes; nil when none came in time.
func (g *Gateway) await(ctx context.Context, s *waiter, got receipt, wait time.Duration) (answer []byte, refused bool) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if got.Duplicate { // the answer may stand on the stream already
		q := query{project: got.Project, kinds: []events.Kind{events.Stated}}
		if i, e, ok := g.causedBy(ctx, q, got.Sequence); ok {
			return i, isRefusal(e)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil, false
		case i, ok := <-s.items:
			if !ok {
				return nil, false
			}
			if i.event.CauseSequence != got.Sequence {
				continue
			}
			answer, err := i.json()
			if err != nil {
				g.log.Error("an event can not be shown", zap.Uint64("sequence", i.event.Sequence), zap.Error(err))
			}
			return answer, isRefusal(i.event)
		}
	}
}

func isRefusal(e events.Event) bool { _, ok := e.Content.(events.ClaimRefused); return ok }

// waitOf reads how long a client prefers to wait (RFC 7240), 0 when not at all.
func waitOf(h http.Header) time.Duration {
	for _, line := range h.Values("Prefer") {
		for preference := range strings.SplitSeq(line, ",") {
			token, _, _ := strings.Cut(preference, ";")
			name, value, ok := strings.Cut(strings.TrimSpace(token), "=")
			if !ok || !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			seconds, err := strconv.Atoi(strings.Trim(strings.TrimSpace(value), `"`))
			if err == nil && seconds > 0 {
				return min(time.Duration(min(seconds, 3600))*time.Second, longestWait)
			}
		}
	}
	return 0
}

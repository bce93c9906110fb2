package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

const (
	beginTimeout = 5 * time.Second  // for the shared reader to be there
	writeTimeout = 10 * time.Second // of one write to a listener
)

// stream answers GET /events/stream with server-sent events: what comes from now on, or, with Last-Event-ID, all that
// stands behind that sequence (0: from the first event of all).
func (g *Gateway) stream(w http.ResponseWriter, r *http.Request) {
	q, last, resume, err := parseStream(r)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	out := &eventWriter{w: w, control: http.NewResponseController(w)}
	defer func() { _ = out.control.SetWriteDeadline(time.Time{}) }() // the connection may be used again
	if r.Method == http.MethodHead {
		_ = out.say("")
		return
	}
	if resume {
		if err := g.catchUpFar(r.Context(), q, &last, out); err != nil {
			g.endStream(w, r, out, err)
			return
		}
	}
	begin, cancel := context.WithTimeout(r.Context(), beginTimeout)
	place, err := g.live.read(begin)
	cancel()
	if err != nil {
		g.endStream(w, r, out, fmt.Errorf("%w: %w", errAway, err))
		return
	}
	defer g.live.leave(place)
	if !resume { // the shared reader may be behind what was stored before
		if last, err = service.LastSequence(r.Context(), g.host); err != nil {
			g.endStream(w, r, out, away(err))
			return
		}
	}
	// The id lets a client that hears nothing before its connection breaks come back without a gap.
	if err := out.say(fmt.Sprintf(": hello\nid: %d\n\n", last)); err != nil {
		return
	}
	if resume { // what came since, up to where the shared reader took over
		if err := g.catchUp(r.Context(), q, &last, out); err != nil {
			g.endStream(w, r, out, err)
			return
		}
	}
	g.relay(r.Context(), q, place, last, out)
}

func parseStream(r *http.Request) (q query, last uint64, resume bool, err error) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, 0, false, refuse(http.StatusBadRequest, "the query is malformed: %v", err)
	}
	id := r.Header.Get("Last-Event-ID")
	if id == "" {
		id = v.Get("after")
	}
	if v.Has("limit") {
		return q, 0, false, refuse(http.StatusBadRequest, "a stream of events has no limit")
	}
	if v.Has("from") || v.Has("to") {
		return q, 0, false, refuse(http.StatusBadRequest, "a stream of events has no times: it begins behind Last-Event-ID, or now")
	}
	if id != "" {
		if last, err = strconv.ParseUint(id, 10, 63); err != nil {
			return q, 0, false, refuse(http.StatusBadRequest, "Last-Event-ID %s is no sequence", quote(id))
		}
	}
	q, err = parseQuery(v)
	return q, last, id != "", err
}

// catchUpFar reads without being a listener, which would be dropped for being behind.
func (g *Gateway) catchUpFar(ctx context.Context, q query, last *uint64, out *eventWriter) error {
	for range 3 {
		before := *last
		if err := g.catchUp(ctx, q, last, out); err != nil {
			return err
		}
		if *last-before < uint64(g.live.buffer)/4 {
			break
		}
	}
	return nil
}

// catchUp sends what stands on the stream behind last.
func (g *Gateway) catchUp(ctx context.Context, q query, last *uint64, out *eventWriter) error {
	filter := q
	filter.chain = "" // not by the index, which is behind
	var failed error
	_, err := scan(ctx, g.host, lifecycle, filter.filters(), *last, func(m service.Message) bool {
		*last = m.Sequence
		e, err := m.Event()
		if err != nil {
			g.log.Error("an event can not be read", zap.Uint64("sequence", m.Sequence), zap.Error(err))
			return true
		}
		if !q.wants(&e) {
			return true
		}
		i := item{event: e, data: m.Data()}
		if _, err := i.json(); err != nil {
			g.log.Error("an event can not be shown", zap.Uint64("sequence", m.Sequence), zap.Error(err))
			return true
		}
		failed = out.write(i.frame, m.Pending == 0)
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return away(err)
}

// relay sends what is shared until the client leaves, or is sent away: all that there is at a time, at once.
func (g *Gateway) relay(ctx context.Context, q query, place *reader, last uint64, out *eventWriter) {
	beat := time.NewTicker(g.heartbeat)
	defer beat.Stop()
	var room []*item
	for {
		items, changed, err := g.live.take(place, room[:0])
		switch {
		case errors.Is(err, errSlow):
			_ = out.say(fmt.Sprintf("event: dropped\ndata: {\"reason\":\"%v: come back with Last-Event-ID %d\"}\n\n", errSlow, last))
			return
		case err != nil:
			_ = out.say(": the gateway is stopping\n\n")
			return
		}
		if last, err = g.send(out, q, items, last); err != nil {
			return
		}
		if room = items; len(items) == atATime {
			continue
		}
		clear(room) // or events would be held on to while nothing comes
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			if out.say(": alive\n\n") != nil {
				return
			}
		case <-changed:
		}
	}
}

// send writes the events that are wanted, and lets them go together. What is written is shared by all readers: one that
// is written to slowly holds on to no copy.
func (g *Gateway) send(out *eventWriter, q query, items []*item, last uint64) (uint64, error) {
	written := false
	for _, i := range items {
		if i.event.Sequence <= last || !q.wants(&i.event) {
			continue
		}
		if _, err := i.json(); err != nil {
			g.log.Error("an event can not be shown", zap.Uint64("sequence", i.event.Sequence), zap.Error(err))
			continue
		}
		if err := out.write(i.frame, false); err != nil {
			return last, err
		}
		written, last = true, i.event.Sequence
	}
	if !written {
		return last, nil
	}
	return last, out.control.Flush()
}

// endStream answers with a problem while that is possible; afterwards the client notices the end and comes back.
func (g *Gateway) endStream(w http.ResponseWriter, r *http.Request, out *eventWriter, err error) {
	if !out.begun {
		g.fail(w, r, err)
		return
	}
	if r.Context().Err() == nil { // else the client went away
		g.log.Warn("an event stream ended early", zap.Error(err))
	}
}

// eventWriter writes server-sent events. A client that takes nothing for a while is left.
type eventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (o *eventWriter) say(text string) error { return o.write([]byte(text), true) }

func (o *eventWriter) write(b []byte, flush bool) error {
	if !o.begun {
		o.begun = true
		h := o.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Accel-Buffering", "no")
		b = append([]byte("retry: 1000\n\n"), b...)
	}
	_ = o.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every server has deadlines
	if _, err := o.w.Write(b); err != nil {                      //nolint:gosec // an event stream with nosniff: no browser takes it for a page
		return err
	}
	if !flush {
		return nil
	}
	return o.control.Flush()
}

// causedBy finds the first event of a query, behind the cause's sequence, that the cause has caused.
func (g *Gateway) causedBy(ctx context.Context, q query, cause uint64) (answer []byte, e events.Event, ok bool) {
	_, err := scan(ctx, g.host, lifecycle, q.filters(), cause, func(m service.Message) bool {
		var err error
		if e, err = m.Event(); err != nil || e.CauseSequence != cause {
			return true
		}
		answer, err = events.EncodeStructuredWith(e, m.Data())
		ok = err == nil
		return !ok
	})
	if err != nil && ctx.Err() == nil {
		g.log.Warn("looking for an answer failed", zap.Error(err))
	}
	return answer, e, ok
}

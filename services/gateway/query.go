package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/access"
)

const (
	lifecycle    = natsd.Lifecycle
	defaultLimit = 100
	greatest     = 1000
	pageBytes    = 16 << 20 // a page ends early when it holds so much
)

// query says which claims and facts are wanted; a zero field wants all.
type query struct {
	project            string
	phase              events.Phase
	subject, predicate string // of the type
	chain              string
	key                string
	aggregate          string        // kind of aggregate; facts only
	from, to           time.Time     // when the stream stored it: from is within, to is not
	kinds              []events.Kind // nil: claims and facts
}

// parseQuery reads a query; the error is a refusal.
func parseQuery(v url.Values) (query, error) {
	q := query{project: v.Get("project"), phase: events.Phase(v.Get("phase")), chain: v.Get("chain"), aggregate: v.Get("aggregate"), key: v.Get("key")}
	for name := range v {
		switch name {
		case "project", "phase", "chain", "aggregate", "key", "type", "from", "to", "after", "limit":
		default:
			return q, refuse(http.StatusBadRequest, "the parameter %s is not known; there are project, type, phase, chain, aggregate, key, from, to, after, limit", quote(name))
		}
	}
	if q.project != "" {
		if err := events.ValidProject(q.project); err != nil {
			return q, refuse(http.StatusBadRequest, "%v", err)
		}
	}
	if q.phase != "" && !q.phase.Valid() {
		return q, refuse(http.StatusBadRequest, "phase %s is none of plan, develop, integrate, deploy, operate, learn", quote(string(q.phase)))
	}
	if name := v.Get("type"); name != "" {
		t, err := events.ParseType(name)
		if err != nil {
			return q, refuse(http.StatusBadRequest, "%v", err)
		}
		q.subject, q.predicate = t.Subject(), t.Predicate()
	}
	if q.aggregate != "" {
		q.kinds = []events.Kind{events.Stated}
	}
	for name, to := range map[string]*time.Time{"from": &q.from, "to": &q.to} {
		if text := v.Get(name); text != "" {
			t, err := time.Parse(time.RFC3339Nano, text)
			if err != nil {
				return q, refuse(http.StatusBadRequest, "%s %s is no RFC 3339 time, like 2026-01-02T15:04:05Z", name, quote(text))
			}
			*to = t
		}
	}
	return q, nil
}

// parsePage reads where a page begins and how long it is.
func parsePage(v url.Values) (after uint64, limit int, err error) {
	limit = defaultLimit
	if s := v.Get("after"); s != "" {
		if after, err = strconv.ParseUint(s, 10, 63); err != nil {
			return 0, 0, refuse(http.StatusBadRequest, "after %s is no sequence", quote(s))
		}
	}
	if s := v.Get("limit"); s != "" {
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > greatest {
			return 0, 0, refuse(http.StatusBadRequest, "limit %s is no number from 1 to %d", quote(s), greatest)
		}
	}
	return after, limit, nil
}

// filters are the subjects that the stream is read by.
func (q query) filters() []string {
	or := func(token string) string {
		if token == "" {
			return "*"
		}
		return token
	}
	key := "*"
	if q.key != "" {
		key = strconv.Itoa(events.Partition(q.key))
	}
	kinds := q.kinds
	if kinds == nil {
		kinds = []events.Kind{events.Claim, events.Stated}
	}
	out := make([]string, len(kinds))
	for i, kind := range kinds {
		out[i] = strings.Join([]string{string(kind), or(q.project), or(string(q.phase)), or(q.subject), or(q.predicate), key}, ".")
	}
	return out
}

// wants judges an event by all that the query says.
func (q query) wants(e *events.Event) bool {
	return e.Kind != events.Result && (q.project == "" || q.project == e.Project) && (q.phase == "" || q.phase == e.Phase) &&
		(q.subject == "" || q.subject == e.Type.Subject()) && (q.predicate == "" || q.predicate == e.Type.Predicate()) &&
		(q.chain == "" || q.chain == e.Chain) && (q.key == "" || q.key == e.Key) &&
		(q.aggregate == "" || q.aggregate == e.Aggregate && e.Kind == events.Stated) &&
		(q.from.IsZero() || !e.Stored.Before(q.from)) && (q.to.IsZero() || e.Stored.Before(q.to))
}

// over reports whether an event, and with it all that follow, comes after what is wanted.
func (q query) over(e *events.Event) bool { return !q.to.IsZero() && !e.Stored.Before(q.to) }

// found is an event of an answer.
type found struct {
	sequence   uint64
	structured json.RawMessage
}

// page reads wanted events behind a sequence; next is where to go on, 0 at the end.
func (g *Gateway) page(ctx context.Context, q query, after uint64, limit int) (page []found, next uint64, err error) {
	if after, err = g.behind(ctx, q.from, after); err != nil {
		return nil, 0, err
	}
	size, over := 0, false
	take := func(e events.Event, data []byte) bool {
		if over = q.over(&e); over {
			return false
		}
		if !q.wants(&e) {
			return true
		}
		structured, err := events.EncodeStructuredWith(e, data)
		if err != nil {
			g.log.Error("an event can not be shown", zap.Uint64("sequence", e.Sequence), zap.Error(err))
			return true
		}
		page = append(page, found{e.Sequence, structured})
		size += len(structured)
		return len(page) < limit && size < pageBytes
	}
	var ended bool
	if q.chain != "" {
		ended, err = g.pageOfChain(ctx, q, after, take)
	} else {
		ended, err = scan(ctx, g.host, lifecycle, q.filters(), after, func(m service.Message) bool {
			e, err := m.Event()
			if err != nil {
				g.log.Error("an event can not be read", zap.Uint64("sequence", m.Sequence), zap.Error(err))
				return true
			}
			return take(e, m.Data())
		})
		err = away(err)
	}
	if err != nil || ended || over || len(page) == 0 {
		return page, 0, err
	}
	return page, page[len(page)-1].sequence, nil
}

// behind is the sequence behind which all stands that was stored from a time on, or after when that is later. The stream's
// times grow with its sequences, so that it is found by halving.
func (g *Gateway) behind(ctx context.Context, from time.Time, after uint64) (uint64, error) {
	if from.IsZero() {
		return after, nil
	}
	stream, err := g.stored(ctx)
	if err != nil {
		return 0, away(err)
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return 0, away(err)
	}
	low, high := max(after, info.State.FirstSeq), info.State.LastSeq+1 // the first one wanted is in [low, high]
	for low < high {
		middle := low + (high-low)/2
		m, err := stream.GetMsg(ctx, middle, jetstream.WithGetMsgSubject(">")) // or the next one, where a limit has let it go
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			high = middle
		case err != nil:
			return 0, away(err)
		case m.Time.Before(from):
			low = m.Sequence + 1
		default:
			high = middle
		}
	}
	return max(after, low-min(low, 1)), nil
}

// pageOfChain reads by the index.
func (g *Gateway) pageOfChain(ctx context.Context, q query, after uint64, take func(events.Event, []byte) bool) (ended bool, err error) {
	for {
		sequences, err := g.index.chain(ctx, q.chain, after, greatest)
		if err != nil {
			return false, err
		}
		for i, sequence := range sequences {
			e, data, err := g.read(ctx, sequence)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue // a limit of the stream has let it go
			}
			if err != nil {
				return false, err
			}
			if !take(e, data) {
				return i == len(sequences)-1 && len(sequences) < greatest, nil
			}
		}
		if len(sequences) < greatest {
			return true, nil
		}
		after = sequences[len(sequences)-1]
	}
}

// read fetches one event of the stream.
func (g *Gateway) read(ctx context.Context, sequence uint64) (events.Event, []byte, error) {
	stream, err := g.stored(ctx)
	if err != nil {
		return events.Event{}, nil, away(err)
	}
	m, err := service.MessageAt(ctx, g.host, stream, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return events.Event{}, nil, err
	}
	if err != nil {
		return events.Event{}, nil, away(err)
	}
	e, err := events.Decode(m.Header, m.Data)
	if err != nil {
		return events.Event{}, nil, err
	}
	kind, _, _ := strings.Cut(m.Subject, ".")
	e.Kind, e.Sequence, e.Stored = events.Kind(kind), m.Sequence, m.Time
	return e, m.Data, nil
}

// stored is the stream, asked for once.
func (g *Gateway) stored(ctx context.Context) (jetstream.Stream, error) {
	if s := g.handle.Load(); s != nil {
		return *s, nil
	}
	s, err := g.host.JS.Stream(ctx, lifecycle)
	if err == nil {
		g.handle.Store(&s)
	}
	return s, err
}

// list answers GET /events.
func (g *Gateway) list(w http.ResponseWriter, r *http.Request) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		g.fail(w, r, refuse(http.StatusBadRequest, "the query is malformed: %v", err))
		return
	}
	q, err := parseQuery(v)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	after, limit, err := parsePage(v)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	page, next, err := g.page(r.Context(), q, after, limit)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	answer := struct {
		Events []json.RawMessage `json:"events"`
		Next   *string           `json:"next"`
	}{Events: make([]json.RawMessage, len(page))}
	for i, f := range page {
		answer.Events[i] = f.structured
	}
	if next > 0 {
		s := strconv.FormatUint(next, 10)
		answer.Next = &s
	}
	g.write(w, http.StatusOK, "application/json", answer)
}

// show answers GET /events/{id}: the fact with that id, else the last claim that has it.
func (g *Gateway) show(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	sequence, err := g.index.byID(r.Context(), id)
	if err == nil && sequence == 0 && g.index.catchUp(r.Context()) { // who has just been told of an event asks for it
		sequence, err = g.index.byID(r.Context(), id)
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	e, data, err := events.Event{}, []byte(nil), jetstream.ErrMsgNotFound
	if sequence > 0 {
		e, data, err = g.read(r.Context(), sequence)
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && !access.From(r.Context()).MayRead(e.Project) {
		err = refuse(http.StatusNotFound, "there is no event %s", quote(id))
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	structured, err := events.EncodeStructuredWith(e, data)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	g.write(w, http.StatusOK, "application/cloudevents+json", json.RawMessage(structured))
}

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

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// deadLetterAnswer is one message that failed for good.
type deadLetterAnswer struct {
	Sequence  uint64    `json:"sequence"` // among the dead letters
	Time      time.Time `json:"time"`
	Project   string    `json:"project,omitempty"`
	Where     string    `json:"where"` // the phase that gave it up, or the inbox that it came by
	Reason    string    `json:"reason"`
	ID        string    `json:"id,omitempty"` // of the event
	Type      string    `json:"type,omitempty"`
	Subject   string    `json:"subject,omitempty"` // that it came on
	Origin    uint64    `json:"origin,omitempty"`  // its sequence there
	Aggregate string    `json:"aggregate,omitempty"`
	Tries     uint64    `json:"tries,omitempty"`
	Principal string    `json:"principal,omitempty"` // in whose name it was said
	Cause     string    `json:"cause,omitempty"`     // id of the event that caused it
	Chain     string    `json:"chain,omitempty"`
	// Only where one is shown:
	Headers map[string][]string `json:"headers,omitempty"`
	Data    json.RawMessage     `json:"data,omitempty"` // when it is JSON
	Text    string              `json:"text,omitempty"` // else
}

func letterOf(sequence uint64, at time.Time, subject string, h nats.Header) deadLetterAnswer {
	tokens := strings.Split(subject, ".")
	a := deadLetterAnswer{
		Sequence: sequence, Time: at.UTC(), Reason: header(h, service.HeaderReason), Subject: header(h, service.HeaderSubject),
		Aggregate: header(h, service.HeaderAggregate), ID: attribute(h, "ce-id"), Type: attribute(h, "ce-type"),
		Principal: attribute(h, "ce-principal"), Cause: attribute(h, "ce-causationid"), Chain: attribute(h, "ce-chainid"),
	}
	a.Origin, _ = strconv.ParseUint(header(h, service.HeaderSequence), 10, 64)
	a.Tries, _ = strconv.ParseUint(header(h, service.HeaderTries), 10, 64)
	if len(tokens) == 3 {
		a.Where = tokens[2]
		if tokens[1] != "_" {
			a.Project = tokens[1]
		}
	}
	return a
}

// letterQuery says which dead letters are wanted; a zero field wants all.
type letterQuery struct {
	project, id string
	typ         events.Type
	since       time.Time
}

func parseLetterQuery(v url.Values, now time.Time) (q letterQuery, err error) {
	for name := range v {
		switch name {
		case "project", "id", "type", "since", "after", "limit":
		default:
			return q, refuse(http.StatusBadRequest, "the parameter %s is not known; there are project, id, type, since, after, limit", quote(name))
		}
	}
	q.project, q.id = v.Get("project"), v.Get("id")
	if name := v.Get("type"); name != "" {
		if q.typ, err = events.ParseType(name); err != nil {
			return q, refuse(http.StatusBadRequest, "%v", err)
		}
	}
	if text := v.Get("since"); text != "" {
		if d, failed := time.ParseDuration(text); failed == nil && d >= 0 {
			q.since = now.Add(-d)
		} else if q.since, err = time.Parse(time.RFC3339, text); err != nil {
			return q, refuse(http.StatusBadRequest, "since %s is neither a duration, such as 1h, nor a time as in RFC 3339", quote(text))
		}
	}
	return q, nil
}

func (q letterQuery) wants(a deadLetterAnswer) bool {
	return (q.project == "" || q.project == a.Project) && (q.id == "" || q.id == a.ID) &&
		(q.typ == "" || string(q.typ) == a.Type) && !a.Time.Before(q.since)
}

// deadLetters answers GET /api/v1/deadletters: in order, behind a sequence.
func (g *Gateway) deadLetters(w http.ResponseWriter, r *http.Request) {
	after, limit, err := parsePage(r.URL.Query())
	var q letterQuery
	if err == nil {
		q, err = parseLetterQuery(r.URL.Query(), time.Now())
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	answer := struct {
		DeadLetters []deadLetterAnswer `json:"deadletters"`
		Next        *string            `json:"next"`
	}{DeadLetters: []deadLetterAnswer{}}
	ended, err := scan(r.Context(), g.host, natsd.DeadLetter, []string{"deadletter.>"}, after, func(m service.Message) bool {
		if a := letterOf(m.Sequence, m.Stored, m.Subject(), m.Headers()); q.wants(a) {
			answer.DeadLetters = append(answer.DeadLetters, a)
		}
		return len(answer.DeadLetters) < limit || m.Pending == 0
	})
	if err != nil {
		g.fail(w, r, away(err))
		return
	}
	if n := len(answer.DeadLetters); n > 0 && !ended {
		next := strconv.FormatUint(answer.DeadLetters[n-1].Sequence, 10)
		answer.Next = &next
	}
	g.write(w, http.StatusOK, "application/json", answer)
}

// deadLetter answers GET /api/v1/deadletters/{sequence} with the whole message.
func (g *Gateway) deadLetter(w http.ResponseWriter, r *http.Request) {
	m, err := g.letter(r.Context(), r.PathValue("sequence"))
	if err != nil {
		g.fail(w, r, err)
		return
	}
	a := letterOf(m.Sequence, m.Time, m.Subject, m.Header)
	a.Headers = map[string][]string{}
	for name, v := range m.Header {
		if !steering(name) {
			a.Headers[name] = v
		}
	}
	if json.Valid(m.Data) {
		a.Data = m.Data
	} else {
		a.Text = strings.ToValidUTF8(string(m.Data), "�")
	}
	g.write(w, http.StatusOK, "application/json", a)
}

// letter reads one dead letter.
func (g *Gateway) letter(ctx context.Context, number string) (*jetstream.RawStreamMsg, error) {
	sequence, err := strconv.ParseUint(number, 10, 63)
	if err != nil || sequence == 0 {
		return nil, refuse(http.StatusBadRequest, "%s is no sequence", quote(number))
	}
	stream, err := g.host.JS.Stream(ctx, natsd.DeadLetter)
	if err != nil {
		return nil, away(err)
	}
	m, err := service.MessageAt(ctx, g.host, stream, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, refuse(http.StatusNotFound, "there is no dead letter %d", sequence)
	}
	return m, away(err)
}

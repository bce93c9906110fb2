package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
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

// deadLetters answers GET /api/v1/deadletters: in order, behind a sequence.
func (g *Gateway) deadLetters(w http.ResponseWriter, r *http.Request) {
	after, limit, err := parsePage(r.URL.Query())
	if err != nil {
		g.fail(w, r, err)
		return
	}
	answer := struct {
		DeadLetters []deadLetterAnswer `json:"deadletters"`
		Next        *string            `json:"next"`
	}{DeadLetters: []deadLetterAnswer{}}
	ended, err := scan(r.Context(), g.host.JS, natsd.DeadLetter, []string{"deadletter.>"}, after, func(m service.Message) bool {
		answer.DeadLetters = append(answer.DeadLetters, letterOf(m.Sequence, m.Stored, m.Subject(), m.Headers()))
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
	sequence, err := strconv.ParseUint(r.PathValue("sequence"), 10, 63)
	if err != nil {
		g.fail(w, r, refuse(http.StatusBadRequest, "%s is no sequence", quote(r.PathValue("sequence"))))
		return
	}
	stream, err := g.host.JS.Stream(r.Context(), natsd.DeadLetter)
	if err != nil {
		g.fail(w, r, away(err))
		return
	}
	m, err := stream.GetMsg(r.Context(), sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		g.fail(w, r, refuse(http.StatusNotFound, "there is no dead letter %d", sequence))
		return
	}
	if err != nil {
		g.fail(w, r, away(err))
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

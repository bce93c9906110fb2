package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway/access"
)

const (
	mostFeedback = 64 << 10 // bytes of the request
	longestUser  = 256
	longestName  = 200
)

// said is the body of POST /feedback.
type said struct {
	Project string  `json:"project"`
	User    string  `json:"user"`
	Text    string  `json:"text"`
	Feature string  `json:"feature"`
	Service string  `json:"service"`
	Rating  float64 `json:"rating"`
}

// feedback answers POST /feedback.
func (g *Gateway) feedback(w http.ResponseWriter, r *http.Request) {
	s, err := readFeedback(w, r)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	e := events.New(s.Project, "", events.FeedbackReceived{User: s.User, Feature: s.Feature, Service: s.Service, Rating: s.Rating, Text: []byte(s.Text)})
	e.SubjectID, e.Source = e.ID, "/gateway/feedback"
	e.TraceParent = r.Header.Get("Traceparent")
	body, err := e.AppendBody(nil)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	c, err := g.door.admit(r.Context(), access.From(r.Context()).Principal, e, body)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	g.answerClaim(w, r, c)
}

func readFeedback(w http.ResponseWriter, r *http.Request) (said, error) {
	var s said
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return s, refuse(http.StatusUnsupportedMediaType, "feedback is sent as application/json")
	}
	body, err := readBody(w, r, mostFeedback)
	if err != nil {
		var no *refusal
		if errors.As(err, &no) && no.status == http.StatusRequestEntityTooLarge {
			return s, refuse(no.status, "the feedback has more than %d bytes", mostFeedback)
		}
		return s, err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, refuse(http.StatusBadRequest, "no feedback: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return s, refuse(http.StatusBadRequest, "no feedback: something follows the JSON object")
	}
	if err := checkProject(s.Project); err != nil {
		return s, err
	}
	switch {
	case !utf8.Valid(body):
		err = refuse(http.StatusBadRequest, "the feedback is no UTF-8")
	case strings.TrimSpace(s.User) == "":
		err = refuse(http.StatusBadRequest, "user is missing: say whose feedback it is")
	case strings.TrimSpace(s.Text) == "":
		err = refuse(http.StatusBadRequest, "text is missing")
	case len(s.User) > longestUser:
		err = refuse(http.StatusBadRequest, "user has more than %d bytes", longestUser)
	case len(s.Feature) > longestName || len(s.Service) > longestName:
		err = refuse(http.StatusBadRequest, "feature or service has more than %d bytes", longestName)
	case s.Rating != 0 && (s.Rating < 1 || s.Rating > 5):
		err = refuse(http.StatusBadRequest, "rating %g has to be 1 to 5, or left out", s.Rating)
	}
	return s, err
}

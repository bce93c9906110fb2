package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Publish hands a claim in. It is on the stream when the error is nil; the same id again is the same claim. The answer is
// the gateway's, as JSON.
func (c *Client) Publish(ctx context.Context, e events.Event) (json.RawMessage, error) {
	return c.publish(ctx, e, 0)
}

func (c *Client) publish(ctx context.Context, e events.Event, wait time.Duration) (json.RawMessage, error) {
	body, err := events.EncodeStructured(e)
	if err != nil {
		return nil, err
	}
	header := http.Header{"Content-Type": {"application/cloudevents+json"}, "Accept": {"application/json"}}
	if wait > 0 {
		header.Set("Prefer", "wait="+strconv.Itoa(int(wait.Seconds())))
	}
	once, cancel := context.WithTimeout(ctx, wait+c.patience)
	defer cancel()
	status, answer, err := c.send(once, http.MethodPost, "/events", header, body)
	switch {
	case err != nil && once.Err() != nil && ctx.Err() == nil:
		return nil, &url.Error{Op: http.MethodPost, URL: c.base + "/events", Err: fmt.Errorf("no answer within %s", wait+c.patience)} // the same again does no harm
	case err != nil:
		return nil, err
	}
	if status >= 300 && (status != http.StatusConflict || !isAnswer(answer)) {
		return nil, &Error{Status: status, Reason: reasonOf(status, answer)}
	}
	return answer, nil
}

// isAnswer reports whether a 409 carries what the claim caused, as a 200 does: the fact that it was refused. Without one the
// gateway has not taken the claim.
func isAnswer(body []byte) bool {
	var a struct {
		Answer json.RawMessage `json:"answer"`
	}
	return json.Unmarshal(body, &a) == nil && a.Answer != nil
}

// RefusedError says that a service took a claim, and said no.
type RefusedError struct {
	Type   events.Type // of the claim
	Reason string
	Fact   events.Event
}

// Error is the reason.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s was refused: %s", e.Type.Short(), e.Reason)
}

// Claim hands a claim in and waits for the fact that it becomes. The error is a [*RefusedError] when the answer is no.
func (c *Client) Claim(ctx context.Context, e events.Event, wait time.Duration) (events.Event, error) {
	raw, err := c.publish(ctx, e, wait)
	if err != nil {
		return events.Event{}, err
	}
	var answer struct {
		Answer json.RawMessage `json:"answer"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return events.Event{}, fmt.Errorf("the answer is no JSON that is understood: %w", err)
	}
	if answer.Answer == nil {
		return events.Event{}, fmt.Errorf("the claim %s is on the stream, but nobody has answered it within %s", e.ID, wait)
	}
	fact, _, err := events.DecodeStructured(answer.Answer)
	if err != nil {
		return events.Event{}, fmt.Errorf("the answer to the claim: %w", err)
	}
	if no, ok := fact.Content.(events.ClaimRefused); ok {
		return fact, &RefusedError{Type: e.Type, Reason: no.Reason, Fact: fact}
	}
	return fact, nil
}

// Apply claims a project's configuration and returns the revision that it became.
func (c *Client) Apply(ctx context.Context, p events.Project, wait time.Duration) (uint64, error) {
	content := events.ProjectConfigured{Project: p}
	fact, err := c.Claim(ctx, events.Event{ID: rand.Text(), Source: "/lemnis/cli", Type: events.TypeOf(content), Time: time.Now(),
		Project: p.Name, SubjectID: p.Name, Content: content}, wait)
	if err != nil {
		return 0, err
	}
	stated, ok := fact.Content.(events.ProjectConfigured)
	if !ok {
		return 0, fmt.Errorf("the answer to the configuration is %s", fact.Type.Short())
	}
	return stated.Revision, nil
}

// Feedback is what a user says of the product.
type Feedback struct {
	Project string  `json:"project"`
	User    string  `json:"user"`
	Text    string  `json:"text"`
	Feature string  `json:"feature,omitempty"`
	Service string  `json:"service,omitempty"`
	Rating  float64 `json:"rating,omitempty"` // 1 to 5; 0 leaves it out
}

// Feedback hands a user's feedback in; it is on the stream, sealed, when the error is nil.
func (c *Client) Feedback(ctx context.Context, f Feedback) error {
	body, err := json.Marshal(f)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, http.MethodPost, "/feedback", http.Header{"Content-Type": {"application/json"}}, body)
	return err
}

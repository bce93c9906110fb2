package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
)

// DeadLetterQuery says which dead letters are wanted; a zero field wants all.
type DeadLetterQuery struct {
	Project, ID string
	Type        string // of the event, short or full
	Since       string // a duration before now, such as 1h, or a time as in RFC 3339
}

// DeadLetter is what the commands look at of a message that failed for good.
type DeadLetter struct {
	Sequence uint64 `json:"sequence"`
	Project  string `json:"project"`
	Where    string `json:"where"`
	Type     string `json:"type"`
	Reason   string `json:"reason"`
}

// DeadLetters lists what failed for good, in order, each as the gateway says it.
func (c *Client) DeadLetters(ctx context.Context, q DeadLetterQuery) ([]json.RawMessage, error) {
	v := url.Values{"limit": {"1000"}}
	for name, value := range map[string]string{"project": q.Project, "id": q.ID, "type": q.Type, "since": q.Since} {
		if value != "" {
			v.Set(name, value)
		}
	}
	all := []json.RawMessage{}
	for {
		var page struct {
			DeadLetters []json.RawMessage `json:"deadletters"`
			Next        *string           `json:"next"`
		}
		if err := c.get(ctx, "/api/v1/deadletters", v, &page); err != nil {
			return nil, err
		}
		all = append(all, page.DeadLetters...)
		if page.Next == nil {
			return all, nil
		}
		v.Set("after", *page.Next)
	}
}

// Resent says what became of a dead letter that was sent again.
type Resent struct {
	Letter   uint64 `json:"letter"`
	Sequence uint64 `json:"sequence"` // of the claim that sends it again
	Already  bool   `json:"already"`  // it was sent again before
}

// Resend sends a dead letter again. Each is sent again once; and once more for each name that again has.
func (c *Client) Resend(ctx context.Context, sequence, again string) (Resent, error) {
	path := "/api/v1/deadletters/" + url.PathEscape(sequence) + "/resend"
	if again != "" {
		path += "?again=" + url.QueryEscape(again)
	}
	var done Resent
	answer, err := c.do(ctx, http.MethodPost, path, nil, nil)
	if err == nil {
		err = json.Unmarshal(answer, &done)
	}
	return done, err
}

// DeadLetter shows one, by its sequence.
func (c *Client) DeadLetter(ctx context.Context, sequence string) (json.RawMessage, error) {
	var one json.RawMessage
	err := c.get(ctx, "/api/v1/deadletters/"+url.PathEscape(sequence), nil, &one)
	return one, err
}

// Event is one event by its id, as a structured CloudEvent.
func (c *Client) Event(ctx context.Context, id string) (json.RawMessage, error) {
	var one json.RawMessage
	err := c.get(ctx, "/events/"+url.PathEscape(id), nil, &one)
	return one, err
}

// Ready is nil when the gateway has caught up with what the stream held at its start.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodGet, "/readyz", nil, nil)
	return err
}

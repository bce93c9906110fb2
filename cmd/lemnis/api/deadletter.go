package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
)

// DeadLetters lists what failed for good, as the gateway says it.
func (c *Client) DeadLetters(ctx context.Context, project string) (json.RawMessage, error) {
	v := url.Values{}
	if project != "" {
		v.Set("project", project)
	}
	var all json.RawMessage
	err := c.get(ctx, "/api/v1/deadletters", v, &all)
	return all, err
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

package api

import (
	"context"
	"encoding/json"
	"net/url"
)

// UnknownWebhooks lists deliveries of webhooks that no claim was made of; of all projects without one.
func (c *Client) UnknownWebhooks(ctx context.Context, project string) (json.RawMessage, error) {
	v := url.Values{}
	if project != "" {
		v.Set("project", project)
	}
	var all json.RawMessage
	err := c.get(ctx, "/api/v1/webhooks/unknown", v, &all)
	return all, err
}

package api

import (
	"context"
	"encoding/json"
	"fmt"
)

// ProjectUsage is what a project uses of what it may.
type ProjectUsage struct {
	Project string  `json:"project"`
	Quotas  []Usage `json:"quotas"`
}

// Usage is how much of a quota is used; Limit is 0 where there is none.
type Usage struct {
	Of    string `json:"of"` // "events in a day", "bytes in the registry"
	Used  int64  `json:"used"`
	Limit int64  `json:"limit"`
}

// Quotas lists what projects use, also as the answer came.
func (c *Client) Quotas(ctx context.Context) (json.RawMessage, []ProjectUsage, error) {
	var answer struct {
		Projects json.RawMessage `json:"projects"`
	}
	if err := c.get(ctx, "/api/v1/quotas", nil, &answer); err != nil {
		return nil, nil, err
	}
	var all []ProjectUsage
	if err := json.Unmarshal(answer.Projects, &all); err != nil {
		return nil, nil, fmt.Errorf("what projects use is not understood: %w", err)
	}
	return answer.Projects, all, nil
}

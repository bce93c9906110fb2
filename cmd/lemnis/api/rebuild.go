package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/lemnis/lemnis/pkg/events"
)

// Rebuild is what was asked for: of owners of phases, which report on it, or done, of the gateway's read models.
type Rebuild struct {
	Requests []struct {
		Phase    events.Phase `json:"phase"`
		ID       string       `json:"id"`
		Sequence uint64       `json:"sequence"`
	} `json:"requests"`
	Models []struct {
		Model     string  `json:"model"`
		Events    uint64  `json:"events"`
		Compared  int     `json:"compared"`
		Differing int     `json:"differing"`
		Seconds   float64 `json:"seconds"`
	} `json:"models"`
}

// Rebuild asks a service, or the owner of a phase, to fold again from the stream.
func (c *Client) Rebuild(ctx context.Context, service string) (Rebuild, error) {
	body, err := json.Marshal(map[string]string{"service": service})
	if err != nil {
		return Rebuild{}, err
	}
	answer, err := c.do(ctx, http.MethodPost, "/api/v1/rebuilds", http.Header{"Content-Type": {"application/json"}}, body)
	var asked Rebuild
	if err == nil {
		err = json.Unmarshal(answer, &asked)
	}
	return asked, err
}

// RebuildReport is how far the owner of a phase has come with a request; false when it has reported nothing yet.
func (c *Client) RebuildReport(ctx context.Context, id string, after uint64, phase events.Phase) (events.RebuildReported, bool, error) {
	var state struct {
		Phases map[events.Phase]events.RebuildReported `json:"phases"`
	}
	err := c.get(ctx, "/api/v1/rebuilds/"+url.PathEscape(id), url.Values{"after": {fmt.Sprint(after)}}, &state)
	var no *Error
	if errors.As(err, &no) && no.Status == http.StatusNotFound {
		return events.RebuildReported{}, false, nil
	}
	report, ok := state.Phases[phase]
	return report, ok, err
}

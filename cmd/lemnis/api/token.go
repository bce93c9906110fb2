package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// TokenInfo is what is known of a token beside its text.
type TokenInfo struct {
	Name     string     `json:"name"`
	Scopes   []string   `json:"scopes"`
	Created  time.Time  `json:"created"`
	Expires  *time.Time `json:"expires"`
	OldUntil *time.Time `json:"oldUntil"`
}

// NewToken is a token with its text, which nobody will say again.
type NewToken struct {
	TokenInfo
	Text string          `json:"token"`
	Raw  json.RawMessage `json:"-"` // the answer as it came
}

// CreateToken makes a token; expires may be zero.
func (c *Client) CreateToken(ctx context.Context, name string, scopes []string, expires time.Time) (NewToken, error) {
	ask := map[string]any{"name": name, "scopes": scopes}
	if !expires.IsZero() {
		ask["expires"] = expires.UTC().Format(time.RFC3339)
	}
	return c.newToken(ctx, "/api/v1/tokens", ask)
}

// RotateToken gives a token another text; the one of before stays good for the grace.
func (c *Client) RotateToken(ctx context.Context, name string, grace time.Duration) (NewToken, error) {
	return c.newToken(ctx, "/api/v1/tokens/"+url.PathEscape(name)+"/rotate", map[string]any{"grace": grace.String()})
}

func (c *Client) newToken(ctx context.Context, path string, ask map[string]any) (NewToken, error) {
	body, err := json.Marshal(ask)
	if err != nil {
		return NewToken{}, err
	}
	answer, err := c.do(ctx, http.MethodPost, path, http.Header{"Content-Type": {"application/json"}}, body)
	if err != nil {
		return NewToken{}, err
	}
	t := NewToken{Raw: answer}
	if err := json.Unmarshal(answer, &t); err != nil {
		return NewToken{}, fmt.Errorf("the answer of %s is no JSON that is understood: %w", path, err)
	}
	return t, nil
}

// Tokens lists all, also as the answer came.
func (c *Client) Tokens(ctx context.Context) (json.RawMessage, []TokenInfo, error) {
	var answer struct {
		Tokens json.RawMessage `json:"tokens"`
	}
	if err := c.get(ctx, "/api/v1/tokens", nil, &answer); err != nil {
		return nil, nil, err
	}
	var tokens []TokenInfo
	if err := json.Unmarshal(answer.Tokens, &tokens); err != nil {
		return nil, nil, fmt.Errorf("the list of tokens is not understood: %w", err)
	}
	return answer.Tokens, tokens, nil
}

// RevokeToken ends a token.
func (c *Client) RevokeToken(ctx context.Context, name string) error {
	_, err := c.do(ctx, http.MethodDelete, "/api/v1/tokens/"+url.PathEscape(name), nil, nil)
	return err
}

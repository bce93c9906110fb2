package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Subscription is what is asked for at `/subscriptions`, in the shape of the CloudEvents Subscriptions API.
type Subscription struct {
	Types    []string             `json:"types,omitempty"`
	Source   string               `json:"source,omitempty"`
	Config   SubscriptionConfig   `json:"config"`
	Filters  []json.RawMessage    `json:"filters,omitempty"`
	Sink     string               `json:"sink,omitempty"`
	Protocol string               `json:"protocol"` // HTTP, NATS
	Settings SubscriptionSettings `json:"protocolsettings,omitzero"`
}

// SubscriptionConfig says what a subscription is about.
type SubscriptionConfig struct {
	Project string `json:"project"`
	Start   string `json:"start,omitempty"`  // new, all, or a sequence
	Secret  string `json:"secret,omitempty"` // secret:<name>
}

// SubscriptionSettings are those of the protocol.
type SubscriptionSettings struct {
	Headers     map[string]string `json:"headers,omitempty"`
	ContentMode string            `json:"contentmode,omitempty"` // binary, structured
	Consumer    string            `json:"consumer,omitempty"`    // NATS
}

// Subscribed is what the gateway says of a subscription.
type Subscribed struct {
	ID      string `json:"id"`
	Secret  string `json:"signingsecret"` // once, at its creation
	Project string `json:"-"`
	Status  struct {
		State     string `json:"state"`
		Reason    string `json:"reason"`
		Lag       uint64 `json:"lag"` // places on the stream between what is settled and the last fact
		LastError string `json:"lasterror"`
		Consumer  string `json:"consumer"`
	} `json:"status"`
}

// SubscriptionInfo is a subscription, and how it fares.
type SubscriptionInfo struct {
	Subscription
	Subscribed
}

// Subscribe makes a subscription.
func (c *Client) Subscribe(ctx context.Context, s Subscription) (Subscribed, error) {
	var made Subscribed
	body, err := json.Marshal(s)
	if err != nil {
		return made, err
	}
	answer, err := c.do(ctx, http.MethodPost, "/subscriptions", http.Header{"Content-Type": {"application/json"}}, body)
	if err != nil {
		return made, err
	}
	if err := json.Unmarshal(answer, &made); err != nil {
		return made, fmt.Errorf("the answer of /subscriptions is no JSON that is understood: %w", err)
	}
	made.Project = s.Config.Project
	return made, nil
}

// Subscriptions lists those of a project, or of all that may be read; raw is what the gateway says.
func (c *Client) Subscriptions(ctx context.Context, project string) (raw json.RawMessage, all []SubscriptionInfo, err error) {
	v := url.Values{}
	if project != "" {
		v.Set("project", project)
	}
	if err := c.get(ctx, "/subscriptions", v, &raw); err != nil {
		return nil, nil, err
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, nil, fmt.Errorf("the list of subscriptions is not understood: %w", err)
	}
	return raw, all, nil
}

// Subscription shows one.
func (c *Client) Subscription(ctx context.Context, id string) (json.RawMessage, error) {
	var one json.RawMessage
	err := c.get(ctx, "/subscriptions/"+url.PathEscape(id), nil, &one)
	return one, err
}

// Unsubscribe takes one away.
func (c *Client) Unsubscribe(ctx context.Context, id string) error {
	_, err := c.do(ctx, http.MethodDelete, "/subscriptions/"+url.PathEscape(id), nil, nil)
	return err
}

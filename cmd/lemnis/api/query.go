package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// Query says which claims and facts are wanted; a zero field wants all.
type Query struct {
	Project string
	Type    string // short or full name
	Phase   events.Phase
	Chain   string
	After   uint64    // sequence; only what stands behind it
	Since   time.Time // of Events: only what was stored then or later
	FromNow bool      // of Follow: what comes from now on, whatever After says
	Limit   int       // of one page of Events; 1000 when zero
}

func (q Query) values() url.Values {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	set("project", q.Project)
	set("type", q.Type)
	set("phase", string(q.Phase))
	set("chain", q.Chain)
	if q.After > 0 {
		v.Set("after", strconv.FormatUint(q.After, 10))
	}
	return v
}

// Page is one answer of GET /events.
type Page struct {
	Events []events.Event
	Raw    []json.RawMessage // the same, as structured CloudEvents
	Next   uint64            // the sequence to read on after; 0 at the end
}

// Page reads one page.
func (c *Client) Page(ctx context.Context, q Query) (Page, error) {
	v := q.values()
	limit := q.Limit
	if limit <= 0 {
		limit = 1000
	}
	v.Set("limit", strconv.Itoa(limit))
	if !q.Since.IsZero() {
		v.Set("from", q.Since.UTC().Format(time.RFC3339))
	}
	var answer struct {
		Events []json.RawMessage `json:"events"`
		Next   json.RawMessage   `json:"next"`
	}
	if err := c.get(ctx, "/events", v, &answer); err != nil {
		return Page{}, err
	}
	page := Page{Raw: answer.Events, Events: make([]events.Event, len(answer.Events))}
	for i, raw := range answer.Events {
		e, _, err := events.DecodeStructured(raw)
		if err != nil {
			return Page{}, fmt.Errorf("event %d of the answer: %w", i, err)
		}
		page.Events[i] = e
	}
	page.Next = number(answer.Next)
	return page, nil
}

// Events reads all pages, in the order of the stream.
func (c *Client) Events(ctx context.Context, q Query) ([]events.Event, error) {
	var all []events.Event
	for {
		page, err := c.Page(ctx, q)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Events...)
		if page.Next <= q.After || len(page.Events) == 0 {
			return all, nil
		}
		q.After = page.Next
	}
}

// number reads a sequence that is written as a number or as text; 0 for anything else.
func number(raw json.RawMessage) uint64 {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = string(raw)
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

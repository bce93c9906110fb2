package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"
)

// TestQuery says of which test cases the history is wanted; a zero field wants all.
type TestQuery struct {
	Repository string
	Name       string    // a part of it; with one, answers have the last results
	From       time.Time // zero: as far back as the gateway goes by itself
}

// Tests is the history of test cases.
type Tests struct {
	From  time.Time     `json:"from"`
	Runs  int           `json:"runs"` // that said something of a test case
	Tests []TestHistory `json:"tests"`
}

// TestHistory is the history of a test case.
type TestHistory struct {
	Repository string       `json:"repository"`
	Name       string       `json:"name"`
	Runs       int          `json:"runs"`
	Failures   int          `json:"failures"`
	Flaky      int          `json:"flaky"` // commits on which it failed and passed
	Seconds    float64      `json:"seconds"`
	Outcome    string       `json:"outcome"` // of the last run: pass, fail or flaky
	Results    []TestResult `json:"results"` // oldest first
}

// TestResult is how a test case ended in a run.
type TestResult struct {
	Run     string    `json:"run"`
	Commit  string    `json:"commit"`
	At      time.Time `json:"at"`
	Outcome string    `json:"outcome"`
	Seconds float64   `json:"seconds"`
}

// Tests is the history of the test cases of a project, also as the answer came.
func (c *Client) Tests(ctx context.Context, project string, q TestQuery) (json.RawMessage, Tests, error) {
	v := url.Values{}
	for name, value := range map[string]string{"repository": q.Repository, "name": q.Name} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if !q.From.IsZero() {
		v.Set("from", q.From.UTC().Format(time.RFC3339))
	}
	var raw json.RawMessage
	if err := c.get(ctx, "/api/v1/tests/"+url.PathEscape(project), v, &raw); err != nil {
		return nil, Tests{}, err
	}
	var all Tests
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, Tests{}, fmt.Errorf("the history of tests is not understood: %w", err)
	}
	return raw, all, nil
}

package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// longestLine bounds one line of the event stream: an event of 1 MiB, as JSON in JSON.
const longestLine = 8 << 20

// Follow reads claims and facts as they come, in order, each once, beginning behind q.After: 0 is the first there is. It
// comes back by itself when the connection is lost, until ctx ends or each returns an error, which it returns.
func (c *Client) Follow(ctx context.Context, q Query, each func(events.Event) error) error {
	return c.FollowRaw(ctx, q, func(e events.Event, _ []byte) error { return each(e) })
}

// FollowRaw is Follow with each event also as it came, a structured CloudEvent.
func (c *Client) FollowRaw(ctx context.Context, q Query, each func(e events.Event, structured []byte) error) error {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		began := q.After
		err := c.follow(ctx, &q.After, q, each)
		var given *givenError
		var answer *Error
		switch {
		case errors.As(err, &given):
			return given.error
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &answer) && !Temporary(err):
			return err
		case q.After > began:
			pause = 50 * time.Millisecond
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// givenError is an error of the callback, told apart from the connection's.
type givenError struct{ error }

func (c *Client) follow(ctx context.Context, after *uint64, q Query, each func(events.Event, []byte) error) error {
	fromNow := q.FromNow && *after == 0
	q.After = 0
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/events/stream?"+q.values().Encode(), http.NoBody)
	if err != nil {
		return err
	}
	c.identify(request)
	request.Header.Set("Accept", "text/event-stream")
	if !fromNow {
		request.Header.Set("Last-Event-ID", strconv.FormatUint(*after, 10))
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<16)) // what can be had of the reason
		return &Error{Status: response.StatusCode, Reason: reasonOf(response.StatusCode, body)}
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 64<<10), longestLine)
	var data []string
	name := ""
	for lines.Scan() {
		line := lines.Text()
		if line != "" {
			field, value, _ := strings.Cut(line, ":")
			value = strings.TrimPrefix(value, " ")
			switch field {
			case "data":
				data = append(data, value)
			case "event":
				name = value
			}
			continue
		}
		body, event := []byte(strings.Join(data, "\n")), name
		data, name = data[:0], ""
		if event != "fact" && event != "claim" {
			continue // a comment that keeps the connection alive, or word that it ends
		}
		e, _, err := events.DecodeStructured(body)
		if err != nil {
			return &givenError{fmt.Errorf("an event of the stream: %w", err)}
		}
		if e.Sequence <= *after {
			continue
		}
		if err := each(e, body); err != nil {
			return &givenError{err}
		}
		*after = e.Sequence
	}
	return lines.Err()
}

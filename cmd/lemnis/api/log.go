package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// LogQuery says what is wanted of the log of a run; a zero field wants all.
type LogQuery struct {
	Step   string
	Text   string // lines that contain it
	Kind   string // pipeline or build; empty: the first that there is
	Follow bool   // also what is still to come
}

// Log is the log of a run, as far as it was asked for; the caller closes it. Reading fails where it breaks off, but that one that is
// followed goes on where it was when the connection breaks, until ctx ends. dropped is how many bytes of a log that is whole are not kept.
func (c *Client) Log(ctx context.Context, project, run string, q LogQuery) (log io.ReadCloser, dropped int64, err error) {
	l := &logReader{client: c, context: ctx, address: c.base + "/api/v1/logs/" + url.PathEscape(project) + "/" + url.PathEscape(run), query: url.Values{}}
	for name, value := range map[string]string{"step": q.Step, "grep": q.Text, "kind": q.Kind} {
		if value != "" {
			l.query.Set(name, value)
		}
	}
	if q.Follow {
		l.query.Set("follow", "true")
	}
	header, err := l.open()
	if err != nil {
		return nil, 0, err
	}
	l.attempt = header.Get(attemptHeader)
	if text := header.Get(droppedHeader); text != "" {
		if dropped, err = strconv.ParseInt(text, 10, 64); err != nil {
			_ = l.Close()
			return nil, 0, fmt.Errorf("the header %s is %q", droppedHeader, text)
		}
	}
	if !q.Follow {
		return l.body, dropped, nil
	}
	return l, dropped, nil
}

// logReader is a log that is followed.
type logReader struct {
	client  *Client
	context context.Context //nolint:containedctx // of the reading
	address string
	query   url.Values
	attempt string // that the reading began with
	body    io.ReadCloser
	read    int64
}

// open asks for the log, behind what was read of it.
func (l *logReader) open() (http.Header, error) {
	if l.read > 0 {
		l.query.Set("skip", strconv.FormatInt(l.read, 10))
		l.query.Set("attempt", l.attempt)
	}
	address := l.address
	if len(l.query) > 0 {
		address += "?" + l.query.Encode()
	}
	request, err := http.NewRequestWithContext(l.context, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	l.client.identify(request)
	response, err := l.client.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		defer func() { _ = response.Body.Close() }()
		answer, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10)) // what could not be read says nothing more
		return nil, &Error{Status: response.StatusCode, Reason: reasonOf(response.StatusCode, answer)}
	}
	l.body = response.Body
	return response.Header, nil
}

func (l *logReader) Read(p []byte) (int, error) {
	for {
		n, err := l.body.Read(p)
		l.read += int64(n)
		if n > 0 || err == nil || errors.Is(err, io.EOF) || l.context.Err() != nil {
			return n, err
		}
		_ = l.body.Close()
		if err := l.again(); err != nil {
			return 0, err
		}
	}
}

// again asks until there is an answer that is not for a while only.
func (l *logReader) again() error {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		timer := time.NewTimer(pause)
		select {
		case <-l.context.Done():
			timer.Stop()
			return l.context.Err()
		case <-timer.C:
		}
		if _, err := l.open(); err == nil || !Temporary(err) {
			return err
		}
	}
}

// Close ends the reading.
func (l *logReader) Close() error { return l.body.Close() }

// The headers are internal/runlog's.
const (
	attemptHeader = "Lemnis-Log-Attempt"
	droppedHeader = "Lemnis-Log-Dropped"
)

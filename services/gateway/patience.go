package gateway

import (
	"io"
	"net/http"
	"time"
)

const (
	readerTimeout = 30 * time.Second // for a client to take something of an answer that it was sent
	drainBody     = 5 * time.Second  // for the rest of a body that nobody wants: the server looks for it before it answers
	mostAtOnce    = 256 << 10        // bytes between two looks at the clock
)

// patient bounds how long a client may keep a request by not reading its answer, or by not sending the body that a refusal
// did not wait for. The time to read moves on with each write, so that a long answer to a slow client is no harm.
func patient(next http.Handler) http.Handler { return patientFor(next, readerTimeout, drainBody) }

func patientFor(next http.Handler, reading, draining time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &patientWriter{ResponseWriter: w, control: http.NewResponseController(w), patience: reading}
		out.extend() // also for the "continue" that is written when the body is asked for
		defer func() {
			out.extend() // for what is still to be flushed
			_ = out.control.SetReadDeadline(time.Now().Add(draining))
		}()
		next.ServeHTTP(out, r)
	})
}

// patientWriter moves the deadline of a connection's writes.
type patientWriter struct {
	http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
}

// Unwrap lets an http.ResponseController reach the connection.
func (p *patientWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *patientWriter) extend() { _ = p.control.SetWriteDeadline(time.Now().Add(p.patience)) } // not every writer of a test can

func (p *patientWriter) Write(b []byte) (n int, err error) {
	for {
		p.extend()
		m, err := p.ResponseWriter.Write(b[n:min(n+mostAtOnce, len(b))])
		if n += m; err != nil || n == len(b) {
			return n, err
		}
	}
}

// ReadFrom lets a file go out without being copied, a piece at a time.
func (p *patientWriter) ReadFrom(from io.Reader) (n int64, err error) {
	for {
		p.extend()
		m, err := io.CopyN(p.ResponseWriter, from, mostAtOnce)
		n += m
		if err == io.EOF { //nolint:errorlint // as CopyN documents
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

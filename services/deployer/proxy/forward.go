package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// continuePatience is how long an upstream that was asked whether it wants a body may take to say so.
const continuePatience = time.Second

// hop are the headers that mean one connection only (RFC 9110, 7.6.1), and those that the front states itself.
var hop = map[string]bool{
	"Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Content-Length": true,
}

var forwarded = map[string]bool{"Forwarded": true, "X-Forwarded-For": true, "X-Forwarded-Host": true, "X-Forwarded-Proto": true}

// brokenError is a response that broke off after its head went to the client.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return "the response broke off: " + e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// forward sends a request to its version, and the response back, from where the quick way was with it. The error is a
// [*brokenError] once the client has the head.
func (f *Front) forward(w http.ResponseWriter, r *http.Request, x *exchange, b *begun) error {
	if b.err != nil {
		return b.err
	}
	for c := b.c; ; c = nil {
		sent := c != nil
		if !sent {
			var err error
			if c, err = f.upstreams.take(r.Context(), x.url.Host); err != nil {
				return err
			}
		}
		again, err := f.forwardOver(c, w, r, x, sent)
		if !again {
			return err
		}
	}
}

// forwardOver is forward over one connection, which the request may have been sent over already. Again says that the upstream
// closed it while it waited, and can not have done anything: the request may be sent over another one.
func (f *Front) forwardOver(c *connection, w http.ResponseWriter, r *http.Request, x *exchange, sent bool) (again bool, err error) {
	kept := false
	stop := context.AfterFunc(r.Context(), func() { _ = c.Close() }) // the client has left
	defer func() {
		if stop() && kept {
			f.upstreams.keep(c)
		} else {
			_ = c.Close()
		}
	}()
	c.room, c.began = headMost, false
	up := &uploading{c: c, body: r.Body, x: x, client: http.NewResponseController(w), stall: f.stall, ended: make(chan struct{})}
	defer up.leave()
	if sent {
		_ = c.SetReadDeadline(x.start.Add(f.config.ResponseTimeout))
		_, _ = io.Copy(io.Discard, r.Body) // it came whole, and went with the head
		up.body = http.NoBody
	} else {
		_ = c.SetReadDeadline(time.Now().Add(f.config.ResponseTimeout))
		if err := c.writeHead(r); err != nil {
			return c.untouched(r, err), err
		}
		if err := c.out.Flush(); err != nil {
			return c.untouched(r, err), err
		}
	}
	// A response is not closed, which would read all that is left of it: the connection is.
	response, err := up.begin(w, r, f.config.ResponseTimeout) //nolint:bodyclose // see above
	if response == nil && err == nil {
		response, err = c.answer(w, r, up.failed) //nolint:bodyclose // see above
		if err != nil && r.Context().Err() != nil {
			// The server gives a client up before its body says why: it may be there, and only have stalled.
			select {
			case <-up.ended:
			case <-time.After(tellingMost):
			}
		}
	}
	if err != nil {
		return c.untouched(r, err), err
	}
	_ = c.SetReadDeadline(time.Time{})
	c.room = 1<<63 - 1
	x.count(response.StatusCode >= http.StatusInternalServerError)
	if response.StatusCode == http.StatusSwitchingProtocols {
		if !up.done(tellingMost) { // what is left would be written beside what the client says next
			return false, errEarly
		}
		up.leave()
		return false, c.upgrade(f, w, r, response)
	}
	if r.ProtoMajor == 1 && !up.drained.Load() {
		w.Header().Set("Connection", "close") // what is still to come of the body must not be taken for another request
	}
	if r.ProtoMajor > 1 {
		patient := &patientWriter{w, http.NewResponseController(w), f.stall}
		defer patient.hurry() // the server sends what is left
		w = patient
	}
	err = deliver(w, response)
	kept = err == nil && !response.Close && up.drained.Load() && up.done(settling)
	return false, err
}

// untouched reports whether a request may be sent again after an error: its connection had waited, nothing came over it, and
// the request asks for nothing that could be done twice.
func (c *connection) untouched(r *http.Request, err error) bool {
	if !c.used || c.began || r.Context().Err() != nil || r.Body != http.NoBody {
		return false
	}
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions || r.Method == http.MethodTrace
	return safe && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE))
}

// writeHead writes the request line and the headers. The front's server has checked them.
func (c *connection) writeHead(r *http.Request) error {
	o := c.out
	put := func(name, value string) {
		_, _ = o.WriteString(name)
		_, _ = o.WriteString(": ")
		_, _ = o.WriteString(value)
		_, _ = o.WriteString("\r\n")
	}
	_, _ = o.WriteString(r.Method)
	_ = o.WriteByte(' ')
	_, _ = o.WriteString(r.URL.RequestURI())
	_, _ = o.WriteString(" HTTP/1.1\r\n")
	put("Host", r.Host)
	options := listed(r.Header["Connection"])
	for name, values := range r.Header {
		if hop[name] || forwarded[name] || slices.Contains(options, name) {
			continue
		}
		for _, v := range values {
			put(name, v)
		}
	}
	if slices.Contains(listed(r.Header["Te"]), "Trailers") {
		put("Te", "trailers")
	}
	if protocol := wantedOf(r); protocol != "" {
		put("Connection", "Upgrade")
		put("Upgrade", protocol)
	}
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	put("X-Forwarded-For", client)
	put("X-Forwarded-Host", r.Host)
	if r.TLS != nil {
		put("X-Forwarded-Proto", "https")
	} else {
		put("X-Forwarded-Proto", "http")
	}
	switch {
	case r.ContentLength > 0:
		put("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	case r.Body != http.NoBody:
		put("Transfer-Encoding", "chunked")
		for name := range r.Trailer {
			put("Trailer", name)
		}
	case r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		put("Content-Length", "0")
	}
	_, err = o.WriteString("\r\n")
	return err
}

// listed are the members of a header that is a list, in canonical form.
func listed(values []string) (all []string) {
	for _, v := range values {
		for one := range strings.SplitSeq(v, ",") {
			if one = textproto.TrimString(one); one != "" {
				all = append(all, textproto.CanonicalMIMEHeaderKey(one))
			}
		}
	}
	return all
}

// answer reads the response, and hands on what comes before it. When reading fails since sending did, why is told by sending.
func (c *connection) answer(w http.ResponseWriter, r *http.Request, sending func() error) (*http.Response, error) {
	if _, err := c.in.Peek(1); err != nil { // ReadResponse would not tell an end before the first byte from one within the head
		return nil, errors.Join(err, sending())
	}
	c.began = true
	for range hintsMost {
		response, err := c.next(w, r)
		if err != nil {
			return nil, errors.Join(err, sending())
		}
		if response.StatusCode != http.StatusContinue { // that, the client is told by its own server, when its body is read
			return response, nil
		}
	}
	return nil, errHints
}

var errEarly = errors.New("the upstream goes on in another protocol before it was sent the whole request")

// hintsMost bounds what an upstream may say before its answer.
const hintsMost = 10

var errHints = errors.New("the upstream says again and again that there is more to come")

// next reads the answer, or that the body may come; hints before it are handed on to a client that knows them.
func (c *connection) next(w http.ResponseWriter, r *http.Request) (*http.Response, error) {
	for range hintsMost {
		response, err := http.ReadResponse(c.in, r)
		if err != nil {
			return nil, err
		}
		switch {
		case response.StatusCode < http.StatusContinue:
			return nil, fmt.Errorf("the upstream answers with status %d", response.StatusCode)
		case response.StatusCode <= http.StatusSwitchingProtocols, response.StatusCode >= http.StatusOK:
			return response, nil
		case !r.ProtoAtLeast(1, 1): // it would take the hint for the answer (RFC 9110, 15.2)
		default:
			own := maps.Clone(w.Header()) // the cookie, which belongs to the answer
			clear(w.Header())
			copyHeaders(w.Header(), response.Header)
			w.WriteHeader(response.StatusCode)
			clear(w.Header())
			maps.Copy(w.Header(), own)
		}
	}
	return nil, errHints
}

// uploading is the body of a request on its way.
type uploading struct {
	c    *connection
	x    *exchange
	body io.ReadCloser

	client *http.ResponseController
	stall  time.Duration
	mu     sync.Mutex
	left   bool // the handler is about to end, and the client is the server's

	drained atomic.Bool   // the client has sent all
	ended   chan struct{} // closed once err is known
	err     error
}

// begin sends the body beside what follows, since an upstream may answer before it has all of it. Where the client waits to
// be asked for it, the upstream is waited for a little; the response is then the one that it gave instead of asking.
func (u *uploading) begin(w http.ResponseWriter, r *http.Request, patience time.Duration) (*http.Response, error) {
	if u.body == http.NoBody {
		u.drained.Store(true)
		close(u.ended)
		return nil, nil
	}
	if strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
		_ = u.c.SetReadDeadline(time.Now().Add(continuePatience))
		_, err := u.c.in.Peek(1)
		_ = u.c.SetReadDeadline(time.Now().Add(patience))
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout(): // it does not know the question
		case err != nil:
			return nil, err
		default:
			response, err := u.c.next(w, r)
			if err != nil {
				return nil, err
			}
			if response.StatusCode != http.StatusContinue {
				return response, nil // the connection can not be kept: a body was announced
			}
		}
	}
	go func() {
		defer close(u.ended)
		u.err = u.send(r)
	}()
	return nil, nil
}

// Read reads the client's body. Each piece has to come in time.
func (u *uploading) Read(p []byte) (int, error) {
	u.await(time.Now().Add(u.stall))
	n, err := u.body.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		u.drained.Store(true) // before the upstream has the last piece, and can answer
		u.await(time.Time{})  // what comes next is the server's, which waits for it as long as the answer takes
	case errors.Is(err, os.ErrDeadlineExceeded):
		u.x.stalled.Store(true)
	}
	return n, err
}

// await bounds the wait for the client; zero: not any more. It does nothing once the handler has left: the server has deadlines of
// its own, and may have given the connection to another request.
func (u *uploading) await(until time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.left {
		_ = u.client.SetReadDeadline(until)
	}
}

func (u *uploading) leave() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.left && u.body != http.NoBody && !u.drained.Load() {
		_ = u.client.SetReadDeadline(time.Now().Add(u.stall)) // the server reads some of what is left, and would wait for ever
	}
	u.left = true
}

func (u *uploading) send(r *http.Request) error {
	var to io.WriteCloser = plainWriter{u.c.out}
	chunked := r.ContentLength < 0
	if chunked {
		to = httputil.NewChunkedWriter(u.c.out)
	}
	flush := u.c.out.Flush
	if r.ContentLength > 0 {
		flush = nil // it is over soon, and the buffer is small
	}
	read, written := copyBody(to, u, flush)
	if read != nil {
		if !errors.Is(read, http.ErrBodyReadAfterClose) {
			u.x.broken.Store(true)
		}
		_ = u.c.Close() // the upstream must not take what came for all
		return read
	}
	if written == nil {
		written = to.Close()
	}
	if written == nil && chunked {
		for name, values := range r.Trailer {
			for _, v := range values {
				_, _ = fmt.Fprintf(u.c.out, "%s: %s\r\n", name, v)
			}
		}
		_, written = u.c.out.WriteString("\r\n")
	}
	if written == nil {
		written = u.c.out.Flush()
	}
	return written
}

// plainWriter is a body of a known length.
type plainWriter struct{ *bufio.Writer }

func (plainWriter) Close() error { return nil }

// failed is why sending ended, if it did.
func (u *uploading) failed() error {
	select {
	case <-u.ended:
		return u.err
	default:
		return nil
	}
}

// tellingMost bounds the wait for the end of a body where something depends on it, and which takes a moment: a client that takes
// no more answers may send on and on.
const tellingMost = time.Second

// settling is how long the last bytes of a body that the client has sent may take to go out, for a connection to be kept.
const settling = 10 * time.Millisecond

// done reports whether the upstream was sent all: what is left has to come and go out within patience.
func (u *uploading) done(patience time.Duration) bool {
	select {
	case <-u.ended:
		return u.err == nil
	case <-time.After(patience):
		return false
	}
}

func copyHeaders(to, from http.Header) {
	options := listed(from["Connection"])
	for name, values := range from {
		if (!hop[name] || name == "Content-Length") && !slices.Contains(options, name) {
			to[name] = append(to[name], values...)
		}
	}
}

// patientWriter bounds the wait for a client of HTTP/2 that takes no more of its stream. For the others handedConn does it.
type patientWriter struct {
	http.ResponseWriter
	client *http.ResponseController
	stall  time.Duration
}

func (p *patientWriter) Write(data []byte) (n int, err error) {
	p.within(func() { n, err = p.ResponseWriter.Write(data) })
	return n, err
}

// FlushError is net/http's.
func (p *patientWriter) FlushError() (err error) {
	p.within(func() { err = p.client.Flush() })
	return err
}

func (p *patientWriter) within(do func()) {
	p.hurry()
	do()
	_ = p.client.SetWriteDeadline(time.Time{}) // the upstream may take longer for what comes next
}

func (p *patientWriter) hurry() { _ = p.client.SetWriteDeadline(time.Now().Add(p.stall)) }

func (p *patientWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// deliver hands a response on. What has no length is handed on as it comes.
func deliver(w http.ResponseWriter, response *http.Response) error {
	h := w.Header()
	copyHeaders(h, response.Header)
	if len(h["Content-Type"]) == 0 {
		h["Content-Type"] = nil // the server would guess one
	}
	for name := range response.Trailer {
		h.Add("Trailer", name)
	}
	w.WriteHeader(response.StatusCode)
	var flush func() error
	if response.ContentLength < 0 || strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		flush = http.NewResponseController(w).Flush
		if err := flush(); err != nil { // the head goes out before there is a body
			return &brokenError{errClient}
		}
	}
	read, written := copyBody(w, response.Body, flush)
	if read != nil {
		return &brokenError{read}
	}
	if written != nil {
		return &brokenError{errClient}
	}
	for name, values := range response.Trailer {
		h[http.TrailerPrefix+name] = values
	}
	return nil
}

// errClient says that the client does not take its response any more.
var errClient = errors.New("the client has left")

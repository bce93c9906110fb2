package subscription

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/lemnis/lemnis/internal/outward"
)

const (
	mostHeader    = 64 << 10 // bytes of an answer's header
	mostAnswer    = 64 << 10 // bytes of an answer's body that are read, so that its connection can be used again
	mostInformal  = 8        // answers of 1xx before the real one
	dialTimeout   = 5 * time.Second
	idleTimeout   = 10 * time.Second // what a burst has opened is closed soon
	mostIdle      = 2048
	mostIdleAHost = 1024
)

// clients reach sinks, over HTTP/1.1. They do not follow redirects, know of no proxies, and look at the address that they
// dial. A connection that waits for its next request takes nothing but itself: net/http's transport keeps two goroutines
// and two buffers for each, which was most of the memory of a subscription.
type clients struct {
	secure, plain *net.Dialer
	tls           *tls.Config

	mu    sync.Mutex
	idle  map[string][]*connection // by scheme and host, the one used last at the end
	count int                      // of all that are idle
	sweep *time.Timer              // while some are
}

// connection is one to a sink; whoever has it is the only one.
type connection struct {
	net.Conn
	origin string // scheme and host
	used   bool   // it has brought an answer before
	last   time.Time
}

// newClients makes clients; resolver may be nil.
func newClients(allow outward.Allowed, resolver *net.Resolver, roots *tls.Config) *clients {
	dialer := func(secure bool) *net.Dialer {
		return &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, Control: allow.Control(secure), Resolver: resolver}
	}
	c := &clients{secure: dialer(true), plain: dialer(false), tls: &tls.Config{MinVersion: tls.VersionTLS12}, idle: map[string][]*connection{}}
	if roots != nil {
		c.tls = roots.Clone()
	}
	c.tls.NextProtos = []string{"http/1.1"}
	return c
}

// close ends the connections that nobody uses.
func (c *clients) close() { c.drop(time.Now().Add(time.Hour)) }

// do is send, for those who send seldom.
func (c *clients) do(ctx context.Context, timeout time.Duration, method, sink string, header http.Header, body []byte) (status int, answer http.Header, err error) {
	to, err := newTarget(sink)
	if err != nil {
		return 0, nil, err
	}
	h := c.send(ctx, timeout, request{method: method, to: to, head: [3][]byte{lines(header)}, body: body})
	return h.status, h.header, h.err
}

// heard is what was heard of a receiver.
type heard struct {
	status int
	header http.Header
	err    error
}

// send sends one request and reads its answer's header; the body is thrown away. What an error says names no URL, which
// may hold a token. A connection that turns out to have been closed while it waited is replaced, and the request sent
// again: the receiver knows a delivery by its id.
func (c *clients) send(ctx context.Context, timeout time.Duration, q request) heard {
	deadline := time.Now().Add(timeout)
	for {
		k, err := c.connection(ctx, deadline, q.to)
		if err != nil {
			return heard{err: unnamed(ctx, err, timeout)}
		}
		a, err := k.exchange(ctx, deadline, q)
		c.finished(k, a)
		if err == nil || !stale(ctx, k, a, err) {
			return heard{a.status, a.header, unnamed(ctx, err, timeout)}
		}
	}
}

// stale tells that a connection had been closed while it waited.
func stale(ctx context.Context, k *connection, a answered, err error) bool {
	return k.used && !a.begun && ctx.Err() == nil && !late(err)
}

// finished keeps a connection, or closes it.
func (c *clients) finished(k *connection, a answered) {
	if a.reusable {
		c.keep(k)
		return
	}
	k.leave()
}

// leave closes a connection. Over TLS that says goodbye, which a receiver that reads nothing holds up for seconds.
func (k *connection) leave() { go func() { _ = k.Close() }() }

// small is how large a body is that can be sent without waiting for the receiver: the system has room for it.
const small = 32 << 10

// sendSoon is send in the caller's goroutine for as long as it takes little: over a connection that waits, to a receiver whose
// answer's header is there within so long, and its body within as long again. Else it returns what is left to do, which may take
// up to the timeout.
func (c *clients) sendSoon(ctx context.Context, within, timeout time.Duration, q request) (done heard, rest func() heard) {
	if len(q.body) > small {
		return heard{}, c.anew(ctx, timeout, q)
	}
	k := c.waiting(q.to.origin)
	if k == nil {
		return heard{}, c.anew(ctx, timeout, q)
	}
	began := time.Now()
	sent := k.ask(began.Add(within), q)
	if late(sent) {
		k.leave()
		return heard{}, c.anew(ctx, timeout, q)
	}
	h := newHearing(k, q)
	if _, err := h.br.Peek(1); late(err) || err == nil && !h.headed() {
		anew := c.anew(ctx, timeout, q)
		return heard{}, func() heard {
			if now, good := c.hear(ctx, h, began.Add(timeout), timeout, timeout, sent); good {
				return now
			}
			return anew()
		}
	}
	if now, good := c.hear(ctx, h, began.Add(timeout), timeout, within, sent); good {
		return now, nil
	}
	return heard{}, c.anew(ctx, timeout, q)
}

// anew is send, later.
func (c *clients) anew(ctx context.Context, timeout time.Duration, q request) func() heard {
	return func() heard { return c.send(ctx, timeout, q) }
}

// hear reads an answer, whose body may take so long; false when its connection had been closed before.
func (c *clients) hear(ctx context.Context, h *hearing, deadline time.Time, timeout, body time.Duration, sent error) (heard, bool) {
	defer h.end()
	k := h.k
	h.body = body
	a, err := h.answer(ctx, deadline, sent)
	c.finished(k, a)
	return heard{a.status, a.header, unnamed(ctx, err, timeout)}, err == nil || !stale(ctx, k, a, err)
}

// waiting takes an idle connection; nil when there is none. One on which something has come is closed: nobody asked for it, and it would
// pass for the answer to the next request.
func (c *clients) waiting(origin string) *connection {
	for {
		k := c.take(origin)
		if k == nil || k.stands() {
			return k
		}
		k.leave()
	}
}

// stands tells whether nothing has come on a connection that waits, not even its end. It waits for nothing.
func (k *connection) stands() bool {
	socket := k.Conn
	if secured, is := k.Conn.(*tls.Conn); is {
		// What was read together with the answer is not in the socket any more. It is read only where there is some: the time is up.
		if secured.SetReadDeadline(time.Unix(1, 0)) != nil {
			return false
		}
		var one [1]byte
		if n, err := secured.Read(one[:]); n > 0 || !late(err) {
			return false
		}
		socket = secured.NetConn()
	}
	has, is := socket.(syscall.Conn)
	if !is {
		return false
	}
	raw, err := has.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Control(func(fd uintptr) { // Read would look at the deadline
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN)
	})
	return err == nil && quiet
}

// take takes the connection that was used last; nil when there is none.
func (c *clients) take(origin string) *connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	idle := c.idle[origin]
	if len(idle) == 0 {
		return nil
	}
	k := idle[len(idle)-1]
	idle[len(idle)-1] = nil
	c.put(origin, idle[:len(idle)-1])
	c.count--
	return k
}

// connection takes an idle one, or dials.
func (c *clients) connection(ctx context.Context, deadline time.Time, to *target) (*connection, error) {
	if k := c.waiting(to.origin); k != nil {
		return k, nil
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	dialer := c.plain
	if to.secure {
		dialer = c.secure
	}
	conn, err := dialer.DialContext(ctx, "tcp", to.address)
	if err != nil {
		return nil, err
	}
	if to.secure {
		if conn, err = c.shake(ctx, conn, to.name); err != nil {
			return nil, err
		}
	}
	return &connection{Conn: conn, origin: to.origin}, nil
}

// shake begins TLS.
func (c *clients) shake(ctx context.Context, conn net.Conn, host string) (net.Conn, error) {
	config := c.tls
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = host
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secured, nil
}

// put replaces the idle connections to somewhere; mu is held.
func (c *clients) put(to string, waiting []*connection) {
	if len(waiting) == 0 {
		delete(c.idle, to)
		return
	}
	c.idle[to] = waiting
}

// keep has a connection wait for its next request.
func (c *clients) keep(k *connection) {
	k.used, k.last = true, time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count >= mostIdle || len(c.idle[k.origin]) >= mostIdleAHost {
		k.leave()
		return
	}
	c.idle[k.origin] = append(c.idle[k.origin], k)
	c.count++
	if c.sweep == nil {
		c.sweep = time.AfterFunc(idleTimeout, func() { c.drop(time.Now().Add(-idleTimeout)) })
	}
}

// drop closes what has been idle since before a time, and sees to it that the rest is looked at again.
func (c *clients) drop(before time.Time) {
	var dropped []*connection
	defer func() {
		for _, k := range dropped {
			k.leave()
		}
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	for to, waiting := range c.idle {
		n := 0 // the one that has waited longest is the first
		for n < len(waiting) && waiting[n].last.Before(before) {
			n++
		}
		dropped = append(dropped, waiting[:n]...)
		c.put(to, slices.Delete(waiting, 0, n))
	}
	c.count -= len(dropped)
	if c.sweep != nil {
		c.sweep.Stop()
		c.sweep = nil
	}
	if c.count > 0 {
		c.sweep = time.AfterFunc(idleTimeout/2, func() { c.drop(time.Now().Add(-idleTimeout)) })
	}
}

// answered is what came back.
type answered struct {
	status   int
	header   http.Header // nil of a plain one
	begun    bool        // some of it did
	reusable bool        // the connection takes another request
}

// The buffers of requests under way.
var (
	writers  = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 4<<10) }}
	hearings = sync.Pool{New: func() any { return &hearing{br: bufio.NewReaderSize(nil, 4<<10)} }}
)

// exchange sends a request and reads the answer.
func (k *connection) exchange(ctx context.Context, deadline time.Time, q request) (answered, error) {
	sent := k.ask(deadline, q)
	if late(sent) {
		return answered{}, sent
	}
	h := newHearing(k, q)
	defer h.end()
	return h.answer(ctx, deadline, sent)
}

// ask sends a request. A receiver that does not want all of it may have answered and closed: an error that does not say that
// the time was up says nothing yet.
func (k *connection) ask(deadline time.Time, q request) error {
	if err := k.SetDeadline(deadline); err != nil {
		return err
	}
	bw := writers.Get().(*bufio.Writer)
	bw.Reset(k)
	defer func() { bw.Reset(nil); writers.Put(bw) }()
	return q.write(bw)
}

// hearing reads one answer.
type hearing struct {
	k      *connection
	in     io.LimitedReader
	br     *bufio.Reader
	body   time.Duration // that the body may take; 0: what is left until the deadline
	status bool          // nothing else is asked of an answer that takes the event
}

// headed tells whether the header of an answer, and not only of one that announces it, has been received. What is written in an
// unusual way is not looked at: net/http takes more for an announcement than can be told here.
func (h *hearing) headed() bool {
	data, err := h.br.Peek(h.br.Buffered())
	status, usual := bytes.CutPrefix(data, []byte("HTTP/1.1 "))
	return err == nil && usual && len(status) > 0 && isDigit(status[0]) && status[0] != '1' && bytes.Contains(status, []byte("\r\n\r\n"))
}

func newHearing(k *connection, q request) *hearing {
	h := hearings.Get().(*hearing)
	h.k, h.in, h.body, h.status = k, io.LimitedReader{R: k, N: mostHeader}, 0, q.method == http.MethodPost
	h.br.Reset(&h.in)
	return h
}

func (h *hearing) end() {
	h.br.Reset(nil)
	h.k, h.in.R = nil, nil
	hearings.Put(h)
}

// answer reads all of it; sent is what became of the request.
func (h *hearing) answer(ctx context.Context, deadline time.Time, sent error) (a answered, err error) {
	soon := 0 < h.body && h.body <= prompt
	if until := time.Now().Add(h.body); soon && until.Before(deadline) {
		deadline = until // all that is missing is the body
	}
	if err := h.k.SetDeadline(deadline); err != nil {
		return a, err
	}
	if !soon { // else it is soon over
		k := h.k
		release := context.AfterFunc(ctx, func() { _ = k.SetDeadline(time.Unix(1, 0)) })
		defer func() {
			if !release() {
				a.reusable = false
			}
		}()
	}
	_, err = h.br.Peek(1)
	if a.begun = err == nil; !a.begun {
		return a, errors.Join(sent, err)
	}
	if h.status {
		data, _ := h.br.Peek(h.br.Buffered())
		if a.status = plain(data); a.status != 0 {
			_, _ = h.br.Discard(len(data))
			a.reusable = sent == nil
			return a, nil
		}
	}
	resp, err := readAnswer(h.br)
	if err != nil {
		if h.in.N <= 0 {
			err = fmt.Errorf("its answer's header has more than %d bytes", mostHeader)
		}
		return a, err
	}
	h.in.N = mostAnswer + mostHeader // with what frames it
	if until := time.Now().Add(h.body); h.body > 0 && until.Before(deadline) {
		_ = h.k.SetReadDeadline(until)
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.CopyN(io.Discard, resp.Body, mostAnswer+1)
	a.status, a.header = resp.StatusCode, resp.Header
	a.reusable = errors.Is(err, io.EOF) && sent == nil && !resp.Close && h.br.Buffered() == 0 && resp.StatusCode != http.StatusSwitchingProtocols
	return a, nil // its status has been heard, whatever became of the body
}

// readAnswer passes over answers that are none yet.
func readAnswer(br *bufio.Reader) (*http.Response, error) {
	for range mostInformal {
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode < 100 || resp.StatusCode > 199 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err
		}
	}
	return nil, errors.New("its answer does not begin")
}

// late tells whether the time was up.
func late(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// unnamed says what an error was without the URL.
func unnamed(ctx context.Context, err error, timeout time.Duration) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case late(err):
		return fmt.Errorf("no answer within %s", timeout)
	}
	return err
}

package subscription

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
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
func newClients(allow allowed, resolver *net.Resolver, roots *tls.Config) *clients {
	dialer := func(secure bool) *net.Dialer {
		return &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, Control: allow.control(secure), Resolver: resolver}
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
	return c.send(ctx, timeout, request{method: method, to: to, head: [][]byte{lines(header)}, body: body})
}

// send sends one request and reads its answer's header; the body is thrown away. What an error says names no URL, which
// may hold a token. A connection that turns out to have been closed while it waited is replaced, and the request sent
// again: the receiver knows a delivery by its id.
func (c *clients) send(ctx context.Context, timeout time.Duration, q request) (status int, answer http.Header, err error) {
	deadline := time.Now().Add(timeout)
	for {
		k, err := c.connection(ctx, deadline, q.to)
		if err != nil {
			return 0, nil, unnamed(ctx, err, timeout)
		}
		a, err := k.exchange(ctx, deadline, q)
		if a.reusable {
			c.keep(k)
		} else {
			_ = k.Close()
		}
		switch {
		case err == nil:
			return a.status, a.header, nil
		case !k.used || a.begun || ctx.Err() != nil || late(err):
			return 0, nil, unnamed(ctx, err, timeout)
		}
	}
}

// connection takes an idle one, or dials.
func (c *clients) connection(ctx context.Context, deadline time.Time, to *target) (*connection, error) {
	c.mu.Lock()
	if waiting := c.idle[to.origin]; len(waiting) > 0 {
		k := waiting[len(waiting)-1]
		waiting[len(waiting)-1] = nil
		c.put(to.origin, waiting[:len(waiting)-1])
		c.count--
		c.mu.Unlock()
		return k, nil
	}
	c.mu.Unlock()
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
		go k.Close() // which over TLS says goodbye
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
			_ = k.Close()
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
	header   http.Header
	begun    bool // some of it did
	reusable bool // the connection takes another request
}

// The buffers of requests under way.
var (
	writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 4<<10) }}
	readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}
)

// exchange sends a request and reads the answer.
func (k *connection) exchange(ctx context.Context, deadline time.Time, q request) (a answered, err error) {
	if err := k.SetDeadline(deadline); err != nil {
		return a, err
	}
	release := context.AfterFunc(ctx, func() { _ = k.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !release() {
			a.reusable = false
		}
	}()
	bw := writers.Get().(*bufio.Writer)
	bw.Reset(k)
	// A receiver that does not want all of it may have answered and closed: that not all was sent says nothing yet.
	sent := q.write(bw)
	bw.Reset(nil)
	writers.Put(bw)
	if late(sent) {
		return a, sent
	}
	in := &io.LimitedReader{R: k, N: mostHeader}
	br := readers.Get().(*bufio.Reader)
	br.Reset(in)
	defer func() { br.Reset(nil); readers.Put(br) }()
	_, err = br.Peek(1)
	if a.begun = err == nil; !a.begun {
		return a, errors.Join(sent, err)
	}
	resp, err := readAnswer(br)
	if err != nil {
		if in.N <= 0 {
			err = fmt.Errorf("its answer's header has more than %d bytes", mostHeader)
		}
		return a, err
	}
	in.N = mostAnswer + mostHeader // with what frames it
	defer func() { _ = resp.Body.Close() }()
	_, err = io.CopyN(io.Discard, resp.Body, mostAnswer+1)
	a.status, a.header = resp.StatusCode, resp.Header
	a.reusable = errors.Is(err, io.EOF) && sent == nil && !resp.Close && br.Buffered() == 0 && resp.StatusCode != http.StatusSwitchingProtocols
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
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if late(err) {
		return fmt.Errorf("no answer within %s", timeout)
	}
	return err
}

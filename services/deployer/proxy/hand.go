package proxy

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// How a client of the quick way, and the request that is under way, get to net/http's server.

// hand has net/http go on with a client, and with the request that is under way. The error is why that can not go on.
func (c *client) hand(failed error) {
	f, up := c.share.f, c.up
	h := &handedConn{f: f, before: bytes.Clone(c.in)}
	c.loop.unwatch(c.fd)
	c.used(len(c.in), &c.loop.small)
	var b *begun
	last, path := refused, ""
	if c.q != nil {
		last, path = unanswered, string(c.q.path)
		b = &begun{x: &exchange{target: c.to, feature: c.feature, start: c.start, headed: c.headed}, cookie: c.cookie, err: failed}
		h.begun.Store(b)
		c.loop.reuse(c.q)
	}
	if up != nil {
		if len(up.out) > 0 {
			b.err = errUntaken
		}
		c.loop.unwatch(up.fd)
	}
	c.gone()
	go func() {
		defer f.clients.remove()
		switch {
		case up == nil:
		case b.err != nil:
			_ = syscall.Close(up.fd)
		default:
			if conn, err := opened(up.fd, ""); err != nil {
				b.err = err
			} else {
				b.c = newConnection(conn, up.address, up.epoch)
				b.c.before, b.c.used = up.in, up.before
			}
		}
		conn, err := opened(c.fd, last)
		h.Conn = conn
		switch {
		case err == nil:
			select {
			case f.handed.conns <- h:
				return
			case <-f.handed.done:
			}
		case b != nil: // the upstream may have done it: it is counted, and nobody else tells of it
			b.x.count(true)
			f.logFailed(b.x, path, errors.Join(b.err, err))
		default:
			f.unserved.Add(1)
			f.config.Log("request refused", "environment", f.config.Environment, "service", f.config.Service, "error", err.Error())
		}
		_ = h.Close()
	}()
}

// unanswered is for a client that net/http could not be given with its request, and refused for one whose request was not sent on.
const (
	unanswered = "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
	refused    = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)

var errUntaken = errors.New("the upstream does not read its request")

// begun is a request on its way, and what marks its user.
type begun struct {
	x      *exchange
	cookie string
	c      *connection // the request went over it; nil: over none yet
	err    error       // why it can not go on
}

// handedConn is a connection that the quick way has begun with, for net/http.
type handedConn struct {
	net.Conn
	f      *Front
	before []byte                // was read, and not used
	begun  atomic.Pointer[begun] // for the handler to go on with

	// What is read of lines that begin like a Content-Length, of a head or of what looks like one.
	matched int          // of lengthLine
	lengths atomic.Int64 // how many were read
	told    int64        // of these, those of the requests before
}

const lengthLine = "\ncontent-length:"

// scan looks for lengths in the next piece.
func (h *handedConn) scan(p []byte) {
	for len(p) > 0 {
		if h.matched == 0 {
			at := bytes.IndexByte(p, lengthLine[0])
			if at < 0 {
				return
			}
			p, h.matched = p[at+1:], 1
			continue
		}
		c := p[0]
		if p = p[1:]; c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		switch {
		case c == lengthLine[0]:
			h.matched = 1
		case c != lengthLine[h.matched]:
			h.matched = 0
		default:
			if h.matched++; h.matched == len(lengthLine) {
				h.matched = 0
				h.lengths.Add(1)
			}
		}
	}
}

// twofold reports whether a request has come with chunks and may have had a length as well, which net/http does not tell: a proxy
// between the user and the front may have taken it to end elsewhere. It is asked once for each request, in their order.
func (h *handedConn) twofold(r *http.Request) bool {
	if len(r.TransferEncoding) > 0 {
		return h.lengths.Load() > h.told
	}
	h.told += int64(len(r.Header["Content-Length"]))
	return false
}

// CloseWrite is net/http's, which so tells a client that nothing more comes while it still reads.
func (h *handedConn) CloseWrite() error {
	if half, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (h *handedConn) Read(p []byte) (int, error) {
	n, err := copy(p, h.before), error(nil)
	if h.before = h.before[n:]; n == 0 {
		n, err = h.Conn.Read(p)
	}
	h.scan(p[:n])
	return n, err
}

// Write bounds the wait for a client that takes no more of its answer.
func (h *handedConn) Write(p []byte) (int, error) {
	_ = h.SetWriteDeadline(time.Now().Add(h.f.stall))
	return h.Conn.Write(p)
}

// Close also ends a request that was sent on, and that net/http did not get to.
func (h *handedConn) Close() error {
	if b := h.begun.Swap(nil); b != nil {
		if b.c != nil {
			_ = b.c.Close()
		}
		h.f.leave(b.x.version)
	}
	if h.Conn == nil {
		return nil
	}
	return h.Conn.Close()
}

type connKey struct{}

// begunBefore is what the quick way has begun of a request; nil: nothing.
func begunBefore(r *http.Request) *begun {
	if h := handedOf(r); h != nil {
		return h.begun.Swap(nil)
	}
	return nil
}

// handedOf is the connection that a request came over.
func handedOf(r *http.Request) *handedConn {
	h, _ := r.Context().Value(connKey{}).(*handedConn)
	return h
}

// handed are the connections that net/http goes on with: a listener to it.
type handed struct {
	net.Listener
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

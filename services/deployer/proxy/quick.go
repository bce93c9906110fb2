package proxy

import (
	"bufio"
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// quickMost bounds a request of the quick way, and quickAnswerMost an answer, heads and bodies in bytes.
	quickMost       = 4 << 10
	quickAnswerMost = 16 << 10
	// quickPatience bounds the wait for an answer on the quick way: nobody watches there whether the client has left.
	quickPatience = 100 * time.Millisecond
	// headPatience bounds the wait for the rest of a head, or for the first one.
	headPatience = 10 * time.Second
	idlePatience = 2 * time.Minute
	idleSlack    = 10 * time.Second // by how much less an idle client may be waited for: deadlines are not set for each request
)

// client is a connection of users. It goes the quick way until something comes that does not, and then is net/http's.
type client struct {
	net.Conn
	f     *Front
	in    *bufio.Reader
	host  string    // the client's address without its port
	until time.Time // the deadline for reading that was set
	state atomic.Int32
	begun atomic.Pointer[begun] // for net/http's handler to go on with
}

// The states of a client.
const (
	clientNew int32 = iota
	clientBusy
	clientIdle
	clientEnded
)

// begun is a request on its way, and what marks its user.
type begun struct {
	x      *exchange
	cookie *http.Cookie
	c      *connection // the request went over it; nil: over none yet
	err    error       // sending or receiving failed
}

// CloseWrite is net/http's, which so tells a client that nothing more comes while it still reads.
func (c *client) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Read is net/http's: what the quick way has read, and then what comes.
func (c *client) Read(p []byte) (int, error) {
	if c.in == nil {
		return c.Conn.Read(p)
	}
	n := min(len(p), c.in.Buffered())
	n, err := c.in.Read(p[:n])
	if c.in.Buffered() == 0 {
		c.in = nil
	}
	return n, err
}

// Close also ends a request that was sent on, and that net/http did not get to.
func (c *client) Close() error {
	if b := c.begun.Swap(nil); b != nil {
		if b.c != nil {
			_ = b.c.Close()
		}
		c.f.leave(b.x.version)
	}
	return c.Conn.Close()
}

type clientKey struct{}

// begunBefore is what the quick way has begun of a request; nil: nothing.
func begunBefore(r *http.Request) *begun {
	if c, is := r.Context().Value(clientKey{}).(*client); is {
		return c.begun.Swap(nil)
	}
	return nil
}

// clients are the connections on the quick way.
type clients struct {
	mu      sync.Mutex
	all     map[*client]struct{}
	closing bool
	empty   chan struct{} // closed: none is left, and none will come
}

func (s *clients) add(c *client) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.all[c] = struct{}{}
	}
	return !s.closing
}

func (s *clients) remove(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, c)
	if s.closing && len(s.all) == 0 {
		close(s.empty)
	}
}

func (s *clients) ending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// newPatience is how long a client that has just come may take for its first request when the front closes.
const newPatience = 500 * time.Millisecond

// end closes the connections that wait for a request, and the others after theirs. It returns when none is left, or cuts
// those that are when ctx ends, and tells so.
func (s *clients) end(ctx context.Context) error {
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		if len(s.all) == 0 {
			close(s.empty)
		}
	}
	for c := range s.all {
		switch {
		case c.state.CompareAndSwap(clientIdle, clientEnded):
			_ = c.Conn.Close()
		case c.state.Load() == clientNew:
			_ = c.SetReadDeadline(time.Now().Add(newPatience))
		}
	}
	s.mu.Unlock()
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.all {
		_ = c.Conn.Close()
	}
	return ctx.Err()
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

// accept serves the clients that come.
func (f *Front) accept() {
	for wait := time.Duration(0); ; {
		conn, err := f.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // too many files, say
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			<-time.After(wait)
			continue
		}
		wait = 0
		c := &client{Conn: conn, f: f, in: bufio.NewReaderSize(conn, quickMost), until: time.Now().Add(headPatience)}
		_ = conn.SetReadDeadline(c.until)
		if c.host, _, err = net.SplitHostPort(conn.RemoteAddr().String()); err != nil {
			c.host = conn.RemoteAddr().String()
		}
		go f.converse(c)
	}
}

// converse goes the quick way with a client: a request that has come whole and can be read in one way only is sent on in one
// piece, and so is its answer. What is not like that goes to net/http, with all that was read, and stays there.
func (f *Front) converse(c *client) {
	if !f.clients.add(c) {
		_ = c.Conn.Close()
		return
	}
	defer f.clients.remove(c)
	defer func() {
		if fault := recover(); fault != nil { // as net/http has it: of one connection, not of all services behind the front
			log.Printf("the front: a connection of %s is closed: %v\n%s", c.host, fault, debug.Stack())
			_ = c.Conn.Close()
		}
	}()
	for got := readWhole; got == readWhole; {
		if got = c.wait(); got == readWhole {
			q := quickRequests.Get().(*quickRequest)
			if got = q.await(c); got == readWhole {
				got = f.quick(c, q)
			}
			quickRequests.Put(q)
		}
		if got == readUnusual {
			f.hand(c)
			return
		}
	}
	_ = c.Conn.Close()
}

var quickRequests = sync.Pool{New: func() any { return &quickRequest{} }}

// hand has net/http go on.
func (f *Front) hand(c *client) {
	_ = c.SetReadDeadline(time.Time{})
	select {
	case f.handed.conns <- c:
	case <-f.handed.done:
		_ = c.Close()
	}
}

// wait returns when a request begins.
func (c *client) wait() reading {
	if c.in.Buffered() == 0 {
		if c.state.Load() == clientIdle {
			c.patience(idlePatience, idleSlack)
		}
		if _, err := c.in.Peek(1); err != nil {
			return readNone
		}
	}
	if c.state.CompareAndSwap(clientNew, clientBusy) || c.state.CompareAndSwap(clientIdle, clientBusy) {
		return readWhole
	}
	return readNone // the front ends
}

// patience bounds reading from now on, up to the slack.
func (c *client) patience(most, slack time.Duration) {
	if until := time.Now().Add(most); until.Sub(c.until).Abs() > slack {
		c.until = until
		_ = c.SetReadDeadline(until)
	}
}

// await reads a request, which stays in c.in: net/http may have to read it again.
func (q *quickRequest) await(c *client) reading {
	before := readWhole
	for {
		seen := c.in.Buffered()
		data, _ := c.in.Peek(seen)
		got := q.read(data)
		switch {
		case got == readWhole, got == readUnusual:
			return got
		case seen == quickMost:
			return readUnusual
		case got == before: // once is enough
		case got == readPartial:
			c.patience(headPatience, 0)
		case got == readBody:
			c.patience(quickPatience, 0) // net/http hands it on as it comes
		}
		before = got
		if _, err := c.in.Peek(seen + 1); err != nil {
			if got == readBody {
				return readUnusual
			}
			return readNone
		}
	}
}

// quick sends a request on and hands its answer on. When the answer is unusual, or does not come, net/http goes on with it.
func (f *Front) quick(c *client, q *quickRequest) reading {
	user, cookie := q.mark(c.host)
	to, ok := f.enter(user)
	if !ok {
		return readUnusual
	}
	if f.faults.at(to.version.name) {
		f.leave(to.version)
		return readUnusual
	}
	start, feature := time.Now(), q.feature(f.features)
	up, err := f.upstreams.take(context.Background(), to.url.Host)
	if err == nil {
		up.room = headMost
		if up.until.Sub(start) < f.quickPatience/2 {
			up.until = start.Add(f.quickPatience)
			_ = up.SetReadDeadline(up.until)
		}
		_, err = up.Write(q.send(c.host))
		runtime.Gosched() // others first: a read before the answer is there costs two system calls more than one after
	}
	a, headed := &q.answer, time.Duration(0)
	if err == nil {
		headed, ok = a.await(up, q.method == http.MethodHead, start)
	}
	if err != nil || !ok {
		x := &exchange{target: to, feature: feature, start: start, headed: headed}
		c.begun.Store(&begun{x, cookie, up, err})
		return readUnusual
	}
	defer f.leave(to.version)
	to.version.count(feature, a.status >= http.StatusInternalServerError, false, headed)
	last := f.clients.ending()
	out := a.send(cookie, last)
	_, _ = up.in.Discard(a.size)
	if a.last {
		_ = up.Close()
	} else {
		f.upstreams.keep(up)
	}
	_, _ = c.in.Discard(q.size)
	if _, err := c.Write(out); err != nil || last {
		return readNone
	}
	c.state.Store(clientIdle)
	if f.clients.ending() {
		return readNone
	}
	runtime.Gosched() // as above, for the next request
	return readWhole
}

// await reads an answer, which stays in up.in, and how long its head took since the start; zero: it did not come. What makes an
// end of it before it is whole is found again by who reads it then.
func (a *quickAnswer) await(up *connection, headOnly bool, start time.Time) (headed time.Duration, whole bool) {
	for {
		seen := up.in.Buffered()
		if _, err := up.in.Peek(seen + 1); err != nil {
			return headed, false
		}
		data, _ := up.in.Peek(up.in.Buffered())
		got := a.read(data, headOnly)
		if headed == 0 && (got == readWhole || got == readBody) { // not at a hint, which is no answer yet
			headed = time.Since(start)
		}
		if got == readWhole || got == readUnusual || a.size > quickAnswerMost {
			return headed, got == readWhole
		}
	}
}

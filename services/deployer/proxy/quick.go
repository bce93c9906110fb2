package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
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
	// newPatience is how long a client may take for its first request, or the rest of one, when the front closes, and to end its
	// connection after the last answer.
	newPatience = 500 * time.Millisecond
	// discardMost bounds what is read at a time of what comes after the last answer, in bytes: who sends more does not listen.
	discardMost = 64 << 10
	// emptyMost bounds the empty lines before a request that have come at once.
	emptyMost = 8
)

// client is a connection of users on the quick way: a request that has come whole and can be read in one way only is sent on in one
// piece, and so is its answer. When something comes that is not like that, the connection is handed to net/http, with all that was
// read, and stays there.
type client struct {
	socket
	share *share
	host  string // the client's address without its port
	stage stage
	got   reading   // of the request that is being read
	due   time.Time // for what stage waits for
	place int       // among the urgent; -1: none

	// Of the request that is under way.
	q       *quickRequest
	to      target
	cookie  string // to set; empty: none
	feature int
	start   time.Time
	headed  time.Duration // when the head of the answer came; zero: it has not
	up      *link
	last    bool // the connection is closed after the answer
}

// stage is what a client waits for.
type stage int

const (
	clientNew     stage = iota // its first request
	clientIdle                 // its next one
	clientReads                // the rest of a request
	clientDials                // a connection to the upstream
	clientAsks                 // the answer
	clientAnswers              // room for the rest of the answer
	clientLeaves               // the end of its connection
	clientGone                 // nothing: the loop does not know it any more
)

// clients are connections that a front has to end: those on the quick way, with those that net/http has not taken yet, and those that
// were upgraded.
type clients struct {
	closing atomic.Bool
	mu      sync.Mutex
	count   int
	empty   chan struct{} // closed: none is left, and none will come
}

func (s *clients) add() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	s.count++
	return true
}

func (s *clients) remove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count--; s.count == 0 && s.closing.Load() {
		close(s.empty)
	}
}

func (s *clients) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing.Swap(true) && s.count == 0 {
		close(s.empty)
	}
}

// wait returns when none is left, or ctx ends, whose error it then returns. It comes after close.
func (s *clients) wait(ctx context.Context) error {
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// endClients closes the connections that wait for a request, and the others after theirs. It returns when none is left, or cuts
// those that are when ctx ends, and tells so.
func (f *Front) endClients(ctx context.Context) error {
	f.clients.close()
	f.each(func(s *share) {
		for c := range s.clients {
			switch c.stage {
			case clientIdle:
				c.readable = true // a request may have come that the loop has not been told of
				if s.loop.guard(c, c.listen); c.stage == clientIdle {
					c.end()
				}
			case clientNew:
				s.loop.hurry(c, time.Now().Add(newPatience))
			case clientReads:
				if c.got == readPartial {
					s.loop.hurry(c, time.Now().Add(newPatience))
				}
			}
		}
	})
	err := f.clients.wait(ctx)
	if err != nil {
		f.each(func(s *share) {
			for c := range s.clients {
				c.end()
			}
		})
	}
	return err
}

// each has every loop do something with what it has of the front.
func (f *Front) each(do func(s *share)) {
	for _, l := range f.loops {
		l.post(func() {
			if s := l.shares[f]; s != nil {
				do(s)
			}
		})
	}
}

// enter takes a client in.
func (l *loop) enter(f *Front, fd int, from syscall.Sockaddr) {
	if !f.clients.add() {
		_ = syscall.Close(fd)
		return
	}
	s := l.of(f)
	c := &client{socket: socket{loop: l, fd: fd}, share: s, host: l.address(from), got: readPartial, place: -1}
	l.calm(c, time.Now().Add(headPatience))
	s.clients[c] = struct{}{}
	if err := l.watch(fd, c, edge); err != nil {
		c.end()
	}
}

func (c *client) ready(flags uint32) {
	c.told(flags)
	switch c.stage {
	case clientNew, clientIdle, clientReads:
		c.listen()
	case clientLeaves:
		c.discard()
	case clientAnswers:
		if flags&syscall.EPOLLOUT == 0 {
			return
		}
		if err := c.flush(); err != nil {
			c.end()
		} else if len(c.out) == 0 {
			c.answered()
		}
	}
}

func (c *client) broken() { c.end() }

// late is called when an urgent client is due.
func (c *client) late() {
	switch {
	case c.stage == clientAsks, c.stage == clientReads && c.got == readBody:
		c.hand(nil) // net/http hands things on as they come, and sees when its client leaves
	default:
		c.end()
	}
}

// listen reads a request, and sends it on once it is whole.
func (c *client) listen() {
	l := c.loop
	var q *quickRequest
	if last := len(l.requests) - 1; last >= 0 {
		q, l.requests = l.requests[last], l.requests[:last]
	} else {
		q = &quickRequest{}
	}
	got, empty := c.got, 0
	for more := len(c.in); ; {
		if more > 0 {
			if c.in[0] == '\r' {
				empty = c.skip(empty)
			}
			if got = q.read(c.in); got == readWhole {
				c.ask(q)
				return
			}
		}
		if got == readUnusual || len(c.in) == quickMost {
			got = readUnusual
			break
		}
		var err error
		if more, err = c.read(&l.small, quickMost); err != nil {
			if got != readBody || len(c.in) == 0 {
				got = readNone
			} else {
				got = readUnusual
			}
		}
		if more == 0 {
			break
		}
	}
	l.reuse(q)
	switch {
	case got == readUnusual:
		c.hand(nil)
	case got == readNone:
		c.end()
	case len(c.in) == 0: // nothing has come
		c.used(0, &l.small)
	case c.stage != clientReads || got != c.got: // once is enough
		c.stage, c.got = clientReads, got
		switch {
		case got == readBody:
			l.hurry(c, time.Now().Add(quickPatience))
		case c.share.f.clients.closing.Load():
			l.hurry(c, time.Now().Add(newPatience))
		default:
			l.calm(c, time.Now().Add(headPatience))
		}
	}
}

// skip forgets the empty lines before a request (RFC 9112, 2.2), and counts them. One too many is left, and is no request. They give
// the client no more time.
func (c *client) skip(empty int) int {
	n := 0
	for ; empty < emptyMost && len(c.in) >= n+2 && c.in[n] == '\r' && c.in[n+1] == '\n'; empty++ {
		n += 2
	}
	c.used(n, &c.loop.small)
	return empty
}

// reuse keeps what a request was read into.
func (l *loop) reuse(q *quickRequest) {
	if len(l.requests) < buffersMost {
		l.requests = append(l.requests, q)
	}
}

// ask sends a request on.
func (c *client) ask(q *quickRequest) {
	f := c.share.f
	var user string
	user, c.cookie = q.mark(c.host)
	to, ok := f.enter(user)
	if ok && f.faults.at(to.version.name) {
		f.leave(to.version)
		ok = false
	}
	if !ok {
		c.loop.reuse(q)
		c.hand(nil)
		return
	}
	c.q, c.to, c.feature, c.start, c.headed = q, to, q.feature(*f.features.Load()), time.Now(), 0
	q.send(c.host)
	c.send()
}

// send takes a link to the upstream, or has one made.
func (c *client) send() {
	c.stage = clientDials
	if up := c.share.take(c.to.url.Host); up != nil {
		c.sendOver(up)
		return
	}
	l, address, epoch := c.loop, c.to.url.Host, c.share.f.upstreams.epoch.Load()
	l.calm(c, time.Time{}) // the dialler has its own patience
	dial := l.dial
	go func() {
		fd, err := dial(address)
		if !l.postFor(c, func() { c.dialled(fd, err, address, epoch) }) && err == nil {
			_ = syscall.Close(fd)
		}
	}()
}

// dialled goes on once there is a new link.
func (c *client) dialled(fd int, err error, address string, epoch int64) {
	var up *link
	if err == nil {
		up = &link{socket: socket{loop: c.loop, fd: fd}, share: c.share, address: address, epoch: epoch}
		if err = c.loop.watch(fd, up, edge); err != nil {
			up.close()
		}
	}
	switch {
	case c.stage == clientGone && err == nil:
		up.close()
	case c.stage == clientGone:
	case err != nil:
		c.hand(err)
	default:
		c.sendOver(up)
	}
}

func (c *client) sendOver(up *link) {
	c.up, up.client, c.stage = up, c, clientAsks
	c.loop.hurry(c, c.start.Add(c.share.f.quickPatience))
	if err := up.write(c.q.head.out); err != nil {
		c.failed(err)
	}
}

// failed is for a link that has ended. Nothing is sent again but what does no harm when it is done twice, and over no link that is
// not one that had waited and brought nothing.
func (c *client) failed(err error) {
	up := c.up
	if up.before && len(up.in) == 0 && c.q.harmless() && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)) {
		c.up = nil
		up.close()
		c.send()
		return
	}
	c.hand(nil)
}

// hear reads an answer, and hands it on once it is whole.
func (c *client) hear() {
	up, a, headOnly := c.up, &c.q.answer, c.q.method == http.MethodHead
	for {
		n, err := up.read(&c.loop.large, quickAnswerMost)
		if err != nil {
			c.failed(err)
			return
		}
		if n == 0 {
			up.used(0, &c.loop.large)
			return
		}
		got := a.read(up.in, headOnly)
		if c.headed == 0 && (got == readWhole || got == readBody) { // not at a hint, which is no answer yet
			c.headed = max(time.Since(c.start), 1)
		}
		switch {
		case got == readWhole:
			c.answer()
			return
		case got == readUnusual, a.size > quickAnswerMost, len(up.in) == quickAnswerMost:
			c.hand(nil)
			return
		}
	}
}

// answer hands an answer on.
func (c *client) answer() {
	f, up, q, a := c.share.f, c.up, c.q, &c.q.answer
	c.to.version.count(c.feature, a.status >= http.StatusInternalServerError, false, c.headed)
	c.last = f.clients.closing.Load()
	out := a.send(c.cookie, c.last)
	up.used(a.size, &c.loop.large)
	if a.last {
		up.close()
	} else {
		c.share.keep(up, c.start.Add(c.headed))
	}
	c.up = nil
	c.used(q.size, &c.loop.small)
	err := c.write(out)
	f.leave(c.to.version)
	c.q = nil // not before: what ends with a fault leaves too
	c.loop.reuse(q)
	c.loop.calm(c, c.start.Add(idlePatience))
	switch {
	case err != nil:
		c.end()
	case len(c.out) > 0:
		c.stage = clientAnswers
	default:
		c.answered()
	}
}

// answered goes on with the next request.
func (c *client) answered() {
	if c.last || c.share.f.clients.closing.Load() {
		c.lastAnswered()
		return
	}
	c.stage, c.got = clientIdle, readPartial
	if len(c.in) > 0 || c.readable {
		c.listen()
	}
}

// lastAnswered tells the client that nothing more comes, and reads on until it ends: the kernel resets a connection that is closed
// while something is still to be read, and the answer may be lost on the way.
func (c *client) lastAnswered() {
	if syscall.Shutdown(c.fd, syscall.SHUT_WR) != nil {
		c.end()
		return
	}
	c.stage = clientLeaves
	c.loop.hurry(c, time.Now().Add(newPatience))
	c.used(len(c.in), &c.loop.small)
	c.discard()
}

// discard reads what nobody answers.
func (c *client) discard() {
	for range discardMost / quickMost {
		n, err := c.read(&c.loop.small, quickMost)
		c.used(len(c.in), &c.loop.small)
		switch {
		case err != nil:
			c.end()
			return
		case n == 0:
			return
		}
	}
	c.end()
}

// end closes a client's connection.
func (c *client) end() {
	if c.stage == clientGone {
		return
	}
	up, asked := c.up, c.q != nil
	c.gone() // first: what ends again after a fault must not close a number that is another's
	defer c.share.f.clients.remove()
	c.loop.sockets[c.fd] = nil
	_ = syscall.Close(c.fd)
	c.used(len(c.in), &c.loop.small)
	if asked {
		defer c.share.f.leave(c.to.version)
	}
	if up != nil {
		up.close()
	}
}

// gone has the loop forget a client.
func (c *client) gone() {
	c.loop.calm(c, time.Time{})
	delete(c.share.clients, c)
	c.stage, c.up, c.q = clientGone, nil, nil
}

package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// idleMost are the connections to an address that wait: those of each loop, which can use no other's, and those of net/http's way.
	idleMost     = 256
	idleFor      = 90 * time.Second
	dialPatience = 2 * time.Second
	// headMost bounds the head of a response, in bytes.
	headMost = 1 << 20
)

// upstreams keeps the connections to versions that wait for their next request. One that waits has no goroutine, as those of
// net/http's transport have: whether it still stands is asked when it is taken.
type upstreams struct {
	mu    sync.Mutex
	idle  map[string][]*connection // by address, the one that was used last at the end
	epoch atomic.Int64             // of connections that may be kept, also of the quick way's
}

// connection is one to an upstream, with at most one request under way.
type connection struct {
	net.Conn
	address string
	epoch   int64
	raw     syscall.RawConn
	in      *bufio.Reader
	out     *bufio.Writer
	before  []byte    // the quick way has read it
	room    int64     // bytes that may still be read; of a head
	used    bool      // it has answered before
	began   bool      // something came over it for the request that is under way
	since   time.Time // it waits
}

// Read is what in reads from.
func (c *connection) Read(p []byte) (int, error) {
	if c.room <= 0 {
		return 0, errHead
	}
	p = p[:min(int64(len(p)), c.room)]
	n, err := copy(p, c.before), error(nil)
	if c.before = c.before[n:]; n == 0 {
		n, err = c.Conn.Read(p)
	}
	c.room -= int64(n)
	return n, err
}

var errHead = errors.New("the head of the response is too long")

// take is a connection to an address: one that waits, or a new one.
func (u *upstreams) take(ctx context.Context, address string) (*connection, error) {
	for {
		u.mu.Lock()
		waiting := u.idle[address]
		if len(waiting) == 0 {
			epoch := u.epoch.Load()
			u.mu.Unlock()
			return dial(ctx, address, epoch)
		}
		c := waiting[len(waiting)-1]
		u.idle[address] = waiting[:len(waiting)-1]
		u.mu.Unlock()
		if time.Since(c.since) < idleFor && c.stands() {
			return c, nil
		}
		_ = c.Close()
	}
}

func dial(ctx context.Context, address string, epoch int64) (*connection, error) {
	nc, err := (&net.Dialer{Timeout: dialPatience}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return newConnection(nc, address, epoch), nil
}

func newConnection(nc net.Conn, address string, epoch int64) *connection {
	c := &connection{Conn: nc, address: address, epoch: epoch}
	c.in, c.out = bufio.NewReaderSize(c, quickAnswerMost), bufio.NewWriterSize(nc, 4<<10)
	if tcp, is := nc.(*net.TCPConn); is {
		c.raw, _ = tcp.SyscallConn() // without it the connection is not kept
	}
	return c
}

// stands reports whether nothing has come on a connection that waits, not even its end.
func (c *connection) stands() bool {
	if c.raw == nil || c.in.Buffered() > 0 {
		return false
	}
	quiet := false
	var one [1]byte
	err := c.raw.Control(func(fd uintptr) { // Read would look at the deadline
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN)
	})
	return err == nil && quiet
}

// keep has a connection wait for its next request.
func (u *upstreams) keep(c *connection) {
	c.used, c.since = true, time.Now()
	u.mu.Lock()
	waiting := u.idle[c.address]
	if c.epoch == u.epoch.Load() && len(waiting) < idleMost {
		if u.idle == nil {
			u.idle = map[string][]*connection{}
		}
		u.idle[c.address] = append(waiting, c)
		c = nil
	}
	u.mu.Unlock()
	if c != nil {
		_ = c.Close()
	}
}

// closeIdle closes those that wait, and later those that are in use, also those of the quick way.
func (u *upstreams) closeIdle() {
	u.mu.Lock()
	idle := u.idle
	u.idle = nil
	u.epoch.Add(1)
	u.mu.Unlock()
	for _, waiting := range idle {
		for _, c := range waiting {
			_ = c.Close()
		}
	}
}

// buffers are what bodies are copied through.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// copyBody copies until src ends; each is called after each write. It tells an error of the source from one of the
// destination: which side broke decides who is to blame.
func copyBody(dst io.Writer, src io.Reader, each func() error) (read, written error) {
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	for {
		n, err := src.Read(buffer[:])
		if n > 0 {
			if _, failed := dst.Write(buffer[:n]); failed != nil {
				return nil, failed
			}
			if each != nil {
				if failed := each(); failed != nil {
					return nil, failed
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return err, nil
		}
	}
}

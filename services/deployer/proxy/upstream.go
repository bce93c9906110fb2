package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	idleMost     = 256 // connections of an upstream that wait
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
	epoch int                      // of connections that may be kept
}

// connection is one to an upstream, with at most one request under way.
type connection struct {
	net.Conn
	address string
	epoch   int
	raw     syscall.RawConn
	in      *bufio.Reader
	out     *bufio.Writer
	until   time.Time // the deadline for reading that the quick way set
	room    int64     // bytes that may still be read; of a head
	used    bool      // it has answered before
	since   time.Time // it waits
}

// Read is what in reads from.
func (c *connection) Read(p []byte) (int, error) {
	if c.room <= 0 {
		return 0, errHead
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.room)])
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
			epoch := u.epoch
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

func dial(ctx context.Context, address string, epoch int) (*connection, error) {
	nc, err := (&net.Dialer{Timeout: dialPatience}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: nc, address: address, epoch: epoch}
	c.in, c.out = bufio.NewReaderSize(c, quickAnswerMost), bufio.NewWriterSize(nc, 4<<10)
	if tcp, is := nc.(*net.TCPConn); is {
		c.raw, err = tcp.SyscallConn()
	}
	return c, err
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
	if c.epoch == u.epoch && len(waiting) < idleMost {
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

// closeIdle closes those that wait, and later those that are in use: none may wait at an upstream that is about to stop.
func (u *upstreams) closeIdle() {
	u.mu.Lock()
	idle := u.idle
	u.idle, u.epoch = nil, u.epoch+1
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

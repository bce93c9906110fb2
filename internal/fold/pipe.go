package fold

import (
	"net"
	"sync"
)

// replyBuffer is the server's end of a pipe whose writes do not wait for the
// reader. A client writes a whole pipeline before it reads an answer, and a
// pipe without a buffer would then block both ends.
type replyBuffer struct {
	net.Conn

	mu      sync.Mutex
	wake    *sync.Cond
	pending []byte
	err     error // of the pump, or net.ErrClosed
}

// pipe returns the client's end and the server's.
func pipe() (client, server net.Conn) {
	client, end := net.Pipe()
	b := &replyBuffer{Conn: end}
	b.wake = sync.NewCond(&b.mu)
	go b.pump()
	return client, b
}

func (b *replyBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	b.pending = append(b.pending, p...)
	b.wake.Signal()
	return len(p), nil
}

func (b *replyBuffer) Close() error {
	b.fail(net.ErrClosed)
	return b.Conn.Close()
}

func (b *replyBuffer) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	b.wake.Signal()
}

func (b *replyBuffer) pump() {
	for {
		b.mu.Lock()
		for len(b.pending) == 0 && b.err == nil {
			b.wake.Wait()
		}
		if b.err != nil {
			b.mu.Unlock()
			return
		}
		out := b.pending
		b.pending = nil
		b.mu.Unlock()
		if _, err := b.Conn.Write(out); err != nil {
			b.fail(err)
			return
		}
	}
}

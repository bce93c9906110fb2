package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// socket is one that a loop watches.
type socket struct {
	loop     *loop
	fd       int
	readable bool   // there may be something to read
	ended    bool   // and nothing after it
	in       []byte // was read, and not used yet
	out      []byte // is to be written
}

// told takes what epoll says.
func (s *socket) told(flags uint32) {
	if flags&(syscall.EPOLLIN|syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		s.readable = true
	}
	if flags&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		s.ended = true
	}
}

// read adds to s.in what has come: n is 0 when nothing has, or s.in is full. A buffer is taken from free when there is none.
func (s *socket) read(free *[][]byte, size int) (n int, err error) {
	if !s.readable {
		return 0, nil
	}
	if s.in == nil {
		if last := len(*free) - 1; last >= 0 {
			s.in, *free = (*free)[last], (*free)[:last]
		} else {
			s.in = make([]byte, 0, size)
		}
	}
	room := s.in[len(s.in):cap(s.in)]
	if len(room) == 0 {
		return 0, nil
	}
	n, err = syscall.Read(s.fd, room)
	for errors.Is(err, syscall.EINTR) {
		n, err = syscall.Read(s.fd, room)
	}
	switch {
	case errors.Is(err, syscall.EAGAIN):
		s.readable, s.ended = false, false
		return 0, nil
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	s.in = s.in[:len(s.in)+n]
	if n < len(room) && !s.ended {
		s.readable = false // that was all, says epoll(7): the next piece is told again
	}
	return n, nil
}

// buffersMost are how many buffers of a kind wait for use.
const buffersMost = 256

// used forgets the first n bytes of s.in, and gives the buffer back when nothing is left.
func (s *socket) used(n int, free *[][]byte) {
	if s.in = s.in[:copy(s.in, s.in[n:])]; len(s.in) == 0 && cap(s.in) > 0 {
		if len(*free) < buffersMost {
			*free = append(*free, s.in)
		}
		s.in = nil
	}
}

// write sends data, and keeps what the kernel has no room for.
func (s *socket) write(data []byte) error {
	n, err := syscall.Write(s.fd, data)
	for errors.Is(err, syscall.EINTR) {
		n, err = syscall.Write(s.fd, data)
	}
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		return err
	}
	if n = max(n, 0); n < len(data) {
		s.out = append(s.out[:0], data[n:]...)
	} else {
		s.out = nil
	}
	return nil
}

// flush sends what was kept.
func (s *socket) flush() error { return s.write(s.out) }

// link is a connection of the quick way to an upstream.
type link struct {
	socket
	share   *share
	address string
	epoch   int64
	client  *client // it is in use; nil: it waits
	before  bool    // it has answered before
	since   time.Time
}

func (u *link) ready(flags uint32) {
	u.told(flags)
	if u.client == nil {
		if u.readable && !u.stands() {
			u.share.idle[u.address] = slices.DeleteFunc(u.share.idle[u.address], func(other *link) bool { return other == u })
			u.close()
		}
		return
	}
	if len(u.out) > 0 && flags&syscall.EPOLLOUT != 0 && u.flush() != nil {
		u.readable = true // which tells what is wrong
	}
	if u.readable {
		u.loop.hears = u.client
		u.client.hear()
		u.loop.hears = nil
	}
}

// broken ends the client, also where the link waits for another one already.
func (u *link) broken() {
	c := u.loop.hears
	if u.loop.hears = nil; c == nil {
		c = u.client
	}
	if c != nil {
		c.end()
	}
}

// stands reports whether nothing has come over a link that waits, not even its end.
func (u *link) stands() bool {
	var one [1]byte
	_, _, err := syscall.Recvfrom(u.fd, one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	u.readable = !errors.Is(err, syscall.EAGAIN)
	return !u.readable && len(u.in) == 0
}

func (u *link) close() {
	u.used(len(u.in), &u.loop.large)
	u.loop.sockets[u.fd] = nil
	_ = syscall.Close(u.fd)
}

// take is a link that waits; nil: there is none. Each is asked whether it still stands: its end may have come since the loop was
// told anything, or what would be taken for the next answer.
func (s *share) take(address string) *link {
	for {
		waiting := s.idle[address]
		if len(waiting) == 0 {
			return nil
		}
		u := waiting[len(waiting)-1]
		s.idle[address] = waiting[:len(waiting)-1]
		if u.stands() {
			return u
		}
		u.close()
	}
}

// keep has a link wait for its next request, but for one that has more to say than its answer.
func (s *share) keep(u *link, now time.Time) {
	u.before, u.since = true, now
	if waiting := s.idle[u.address]; u.epoch == s.f.upstreams.epoch.Load() && len(waiting) < idleMost && !u.readable && !u.ended && len(u.in)+len(u.out) == 0 {
		s.idle[u.address] = append(waiting, u)
		u.client = nil
		s.loop.expect(now.Add(idleFor))
	} else {
		u.close()
	}
}

// closeIdle closes the links that wait.
func (s *share) closeIdle() {
	for _, waiting := range s.idle {
		for _, u := range waiting {
			u.close()
		}
	}
	clear(s.idle)
}

// sweep ends what has waited too long, and tells the loop when the rest is due.
func (s *share) sweep(now time.Time) {
	for c := range s.clients {
		switch {
		case c.place >= 0, c.stage == clientDials: // it is told of elsewhere
		case now.After(c.due):
			s.loop.guard(c, c.end)
		default:
			s.loop.expect(c.due)
		}
	}
	for address, waiting := range s.idle {
		for len(waiting) > 0 && now.Sub(waiting[0].since) >= idleFor { // the oldest is the first
			waiting[0].close()
			waiting = waiting[1:]
		}
		if s.idle[address] = waiting; len(waiting) == 0 {
			delete(s.idle, address)
		} else {
			s.loop.expect(waiting[0].since.Add(idleFor))
		}
	}
}

// dialled is a new connection to an address, that no one else watches.
func dialled(address string) (fd int, err error) {
	conn, err := net.DialTimeout("tcp", address, dialPatience)
	if err != nil {
		return -1, err
	}
	defer func() { _ = conn.Close() }() // from the runtime's poller too
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return -1, err
	}
	var failed syscall.Errno
	err = raw.Control(func(own uintptr) {
		var r uintptr
		r, _, failed = syscall.Syscall(syscall.SYS_FCNTL, own, syscall.F_DUPFD_CLOEXEC, 0)
		fd = int(r)
	})
	if err == nil && failed != 0 {
		err = os.NewSyscallError("fcntl", failed)
	}
	return fd, err
}

// opened is a socket of the quick way as net has it. The number that it had is closed, after last words where net can not have it:
// for a moment it takes two numbers.
func opened(fd int, last string) (net.Conn, error) {
	file := os.NewFile(uintptr(fd), "connection")
	defer func() { _ = file.Close() }()
	conn, err := net.FileConn(file)
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		conn, err = spare.join(file)
	}
	if err != nil && last != "" {
		_, _ = file.WriteString(last)
	}
	return conn, err
}

// spare is a number that is kept for when no other is left: what net takes over needs one for a moment, and gives one back.
var spare spareFile

type spareFile struct {
	mu   sync.Mutex
	file *os.File // nil: there was none to keep
}

// keep opens the spare file unless there is one.
func (s *spareFile) keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open()
}

func (s *spareFile) open() {
	if s.file == nil {
		s.file, _ = os.Open(os.DevNull)
	}
}

// join is net.FileConn, in the place of the spare file. The file is closed when that is done, so that there is a number to spare again.
func (s *spareFile) join(file *os.File) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open(); s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
	conn, err := net.FileConn(file)
	if err == nil {
		_ = file.Close()
	}
	s.open()
	return conn, err
}

// drop closes it.
func (s *spareFile) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
}

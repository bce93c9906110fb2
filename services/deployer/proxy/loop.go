package proxy

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// loop serves the connections of the quick way, those of clients and those to upstreams: one goroutine that asks the kernel which
// of them have something to say, and waits for none of them. With a goroutine for each client every request costs two wake-ups of
// the scheduler, and a read in vain on either side. What belongs to a loop is touched by its goroutine alone, but for posted.
type loop struct {
	poll   int    // epoll's
	wake   [2]int // a pipe: something was posted
	events []syscall.EpollEvent
	// sockets are what is watched, by file descriptor.
	sockets []watched
	shares  map[*Front]*share
	urgent  []*client // those whose time is short
	doors   []*door   // that are not open for the moment
	next    time.Time // nothing else is due before; zero: nothing else waits
	looked  time.Time // at the urgent
	ended   chan struct{}

	small, large [][]byte // buffers that nobody uses, for requests and for answers
	requests     []*quickRequest

	zones map[uint32]string // what the network's interfaces are named, since zoned
	zoned time.Time
	dial  func(address string) (fd int, err error) // waits, unlike all else

	mu      sync.Mutex
	posted  []posted
	stopped bool
}

// posted is what a loop is to do, and who is broken when it panics.
type posted struct {
	w  watched
	do func()
}

// watched is what a loop tells that its socket is ready.
type watched interface {
	ready(flags uint32)
	// broken is called when ready has panicked.
	broken()
}

// share is what a loop has of a front.
type share struct {
	f       *Front
	loop    *loop
	clients map[*client]struct{}
	idle    map[string][]*link // by address, the one that was used last at the end
}

// loops are the process's, for all its fronts.
var loops struct {
	mu    sync.Mutex
	users int
	all   []*loop
}

// turns is whose the next client is: of the process too, or all fronts with few clients would give them to the same loop.
var turns atomic.Uint64

// joinLoops starts the loops for the first front. Half of the processors: the others are for what does not go the quick way, since
// a loop that has much to do lets go of its own only when it is made to.
func joinLoops() ([]*loop, error) {
	loops.mu.Lock()
	defer loops.mu.Unlock()
	if loops.users == 0 {
		for range max(1, runtime.GOMAXPROCS(0)/2) {
			l, err := newLoop()
			if err != nil {
				stopLoops()
				return nil, fmt.Errorf("proxy: %w", err)
			}
			loops.all = append(loops.all, l)
			go l.run()
		}
	}
	loops.users++
	return loops.all, nil
}

func leaveLoops() {
	loops.mu.Lock()
	defer loops.mu.Unlock()
	if loops.users--; loops.users == 0 {
		stopLoops()
	}
}

func stopLoops() {
	for _, l := range loops.all {
		l.post(l.stop)
		<-l.ended
	}
	loops.all = nil
}

// stop has the loop end, and nothing more be posted.
func (l *loop) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
}

func newLoop() (*loop, error) {
	poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	l := &loop{poll: poll, events: make([]syscall.EpollEvent, 128), shares: map[*Front]*share{}, dial: dialled, ended: make(chan struct{})}
	if err := syscall.Pipe2(l.wake[:], syscall.O_NONBLOCK|syscall.O_CLOEXEC); err != nil {
		_ = syscall.Close(poll)
		return nil, os.NewSyscallError("pipe2", err)
	}
	if err := l.watch(l.wake[0], waker{l}, syscall.EPOLLIN); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *loop) close() {
	for _, fd := range []int{l.poll, l.wake[0], l.wake[1]} {
		_ = syscall.Close(fd)
	}
}

// edge tells once that something has come, that there is room again, and that the other side has ended.
const edge uint32 = syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | -syscall.EPOLLET

// watch has the loop tell w of its socket.
func (l *loop) watch(fd int, w watched, flags uint32) error {
	for fd >= len(l.sockets) {
		l.sockets = append(l.sockets, make([]watched, fd+64-len(l.sockets))...)
	}
	l.sockets[fd] = w
	err := syscall.EpollCtl(l.poll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: flags, Fd: int32(fd)})
	return os.NewSyscallError("epoll_ctl", err)
}

// unwatch is for a socket that stays open.
func (l *loop) unwatch(fd int) {
	l.sockets[fd] = nil
	_ = syscall.EpollCtl(l.poll, syscall.EPOLL_CTL_DEL, fd, nil)
}

// post has the loop call do; false: it has ended.
func (l *loop) post(do func()) bool { return l.postFor(waker{}, do) }

func (l *loop) postFor(w watched, do func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	if l.posted = append(l.posted, posted{w, do}); len(l.posted) == 1 {
		_, _ = syscall.Write(l.wake[1], []byte{0})
	}
	return true
}

// waker takes what was posted.
type waker struct{ l *loop }

func (w waker) broken() {}

func (w waker) ready(uint32) {
	var some [8]byte
	_, _ = syscall.Read(w.l.wake[0], some[:])
	w.l.mu.Lock()
	all := w.l.posted
	w.l.posted = nil
	w.l.mu.Unlock()
	for _, p := range all {
		w.l.guard(p.w, p.do)
	}
}

func (l *loop) run() {
	defer close(l.ended)
	defer l.close()
	for wait := -1; ; wait = l.sweep(time.Now()) {
		n, err := syscall.EpollWait(l.poll, l.events, wait)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			log.Printf("the front: waiting for connections: %v", err)
			<-time.After(time.Second) // not in a circle
		}
		for _, e := range l.events[:max(n, 0)] {
			// An event may be of a socket that has had the number before, and is no more than a hint.
			if w := l.sockets[e.Fd]; w != nil {
				l.guard(w, func() { w.ready(e.Events) })
			}
		}
		l.mu.Lock()
		stopped := l.stopped
		l.mu.Unlock()
		if stopped {
			waker{l}.ready(0) // what was posted before is done: a file to close, say
			return
		}
	}
}

// guard has a fault end one connection, not all services behind the front.
func (l *loop) guard(w watched, do func()) {
	defer func() {
		if fault := recover(); fault != nil {
			log.Printf("the front: a connection is closed: %v\n%s", fault, debug.Stack())
			defer func() {
				if fault := recover(); fault != nil {
					log.Printf("the front: and could not be: %v\n%s", fault, debug.Stack())
				}
			}()
			w.broken()
		}
	}()
	do()
}

const (
	// urgently is how often the clients whose time is short are looked at, and seldom how often all are at most.
	urgently = 5 * time.Millisecond
	seldom   = time.Second
)

// sweep ends what has waited too long, and returns for how many milliseconds the loop may wait.
func (l *loop) sweep(now time.Time) (wait int) {
	if len(l.urgent) > 0 && now.Sub(l.looked) >= urgently {
		l.looked = now
		for i := len(l.urgent) - 1; i >= 0; i-- { // from behind: who goes is replaced by the last
			if c := l.urgent[i]; now.After(c.due) {
				l.guard(c, c.late)
			}
		}
	}
	for _, d := range slices.Clone(l.doors) {
		if now.After(d.until) {
			l.guard(d, func() { d.shut(); d.open() })
		}
	}
	if !l.next.IsZero() && now.After(l.next) {
		l.next = time.Time{}
		for _, s := range l.shares {
			s.sweep(now)
		}
		if least := now.Add(seldom); !l.next.IsZero() && l.next.Before(least) {
			l.next = least
		}
	}
	switch {
	case len(l.urgent)+len(l.doors) > 0:
		return int(urgently / time.Millisecond)
	case l.next.IsZero():
		return -1
	default:
		return int(max(l.next.Sub(now), 0)/time.Millisecond) + 1
	}
}

// expect has the loop look when something is due, which may be put off meanwhile.
func (l *loop) expect(due time.Time) {
	if l.next.IsZero() || due.Before(l.next) {
		l.next = due
	}
}

// of is what the loop has of a front.
func (l *loop) of(f *Front) *share {
	s := l.shares[f]
	if s == nil {
		s = &share{f: f, loop: l, clients: map[*client]struct{}{}, idle: map[string][]*link{}}
		l.shares[f] = s
	}
	return s
}

// hurry has a client be looked at when it is due; c.late tells what then.
func (l *loop) hurry(c *client, due time.Time) {
	c.due = due
	if c.place < 0 {
		c.place = len(l.urgent)
		l.urgent = append(l.urgent, c)
	}
}

// calm is for a client that has time.
func (l *loop) calm(c *client, due time.Time) {
	if c.due = due; !due.IsZero() {
		l.expect(due)
	}
	if c.place >= 0 {
		last := l.urgent[len(l.urgent)-1]
		l.urgent[c.place], last.place = last, c.place
		l.urgent = l.urgent[:len(l.urgent)-1]
		c.place = -1
	}
}

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
		u.client.hear()
	}
}

func (u *link) broken() {
	if u.client != nil {
		u.client.end()
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
	u.before, u.since, u.client = true, now, nil
	if waiting := s.idle[u.address]; u.epoch == s.f.upstreams.epoch.Load() && len(waiting) < idleMost && !u.readable && !u.ended && len(u.in)+len(u.out) == 0 {
		s.idle[u.address] = append(waiting, u)
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
	if err != nil && last != "" {
		_, _ = file.WriteString(last)
	}
	return conn, err
}

// door is where a front's clients come in.
type door struct {
	f     *Front
	loop  *loop
	raw   syscall.RawConn
	fd    int
	wait  time.Duration
	until time.Time // it is open again
}

// open has the loop watch the listener.
func (d *door) open() {
	err := d.raw.Control(func(fd uintptr) {
		d.fd = int(fd)
		if err := d.loop.watch(d.fd, d, syscall.EPOLLIN); err != nil {
			d.pause()
		}
	})
	if err != nil && d.loop.sockets[d.fd] == watched(d) {
		d.loop.sockets[d.fd] = nil
	}
}

// pause is for when there are too many files, say.
func (d *door) pause() {
	d.wait = min(max(2*d.wait, 5*time.Millisecond), time.Second)
	d.until = time.Now().Add(d.wait)
	d.loop.unwatch(d.fd)
	d.loop.doors = append(d.loop.doors, d)
}

func (d *door) broken() {}

// acceptMost are how many clients come in before the loop sees to the others; of those that still wait it is told again.
const acceptMost = 64

// ready accepts the clients that wait.
func (d *door) ready(uint32) {
	_ = d.raw.Control(func(fd uintptr) { // not when it was closed meanwhile: its number may be another's
		for range acceptMost {
			client, from, err := syscall.Accept4(int(fd), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
			switch {
			case errors.Is(err, syscall.EAGAIN):
				return
			case errors.Is(err, syscall.ECONNABORTED), errors.Is(err, syscall.EINTR):
				continue
			case err != nil:
				d.pause()
				return
			}
			d.wait = 0
			_ = syscall.SetsockoptInt(client, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
			l := d.f.loops[turns.Add(1)%uint64(len(d.f.loops))]
			if l == d.loop {
				l.enter(d.f, client, from)
			} else if !l.post(func() { l.enter(d.f, client, from) }) {
				_ = syscall.Close(client)
			}
		}
	})
}

// shut is for a listener that is closed.
func (d *door) shut() {
	if d.fd < len(d.loop.sockets) && d.loop.sockets[d.fd] == watched(d) {
		d.loop.sockets[d.fd] = nil
	}
	d.loop.doors = slices.DeleteFunc(d.loop.doors, func(other *door) bool { return other == d })
}

func (l *loop) address(from syscall.Sockaddr) string {
	switch a := from.(type) {
	case *syscall.SockaddrInet4:
		return net.IP(a.Addr[:]).String()
	case *syscall.SockaddrInet6:
		return (&net.IPAddr{IP: a.Addr[:], Zone: l.zone(a.ZoneId)}).String()
	}
	return ""
}

const (
	zonesMost = 64
	zonesFor  = time.Minute // an interface may be given another name
)

// zone is the name of a network interface, which to ask the kernel for takes longer than a request.
func (l *loop) zone(index uint32) string {
	if index == 0 {
		return ""
	}
	now := time.Now()
	if l.zones == nil || len(l.zones) >= zonesMost || now.Sub(l.zoned) >= zonesFor {
		l.zones, l.zoned = map[uint32]string{}, now
	}
	name, known := l.zones[index]
	if !known {
		if zone, err := net.InterfaceByIndex(int(index)); err == nil {
			name = zone.Name
		}
		l.zones[index] = name
	}
	return name
}

package proxy

import (
	"errors"
	"fmt"
	"log"
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
	hears   *client   // an answer, at this moment; nil: none does
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

// joinLoops starts the loops for the first front: for half of the processors, since a loop that has much to do lets go of its own only
// when it is made to, and the others are for what does not go the quick way; but two at least where there are two. One alone is put on the
// processor where its upstreams run, and all of them wait while another one is idle (docs/performance.md).
func joinLoops() ([]*loop, error) {
	loops.mu.Lock()
	defer loops.mu.Unlock()
	if loops.users == 0 {
		spare.keep()
		processors := runtime.GOMAXPROCS(0)
		for range max(min(processors, 2), processors/2) {
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
	spare.drop()
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

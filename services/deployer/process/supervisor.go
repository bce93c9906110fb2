//go:build linux

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Config of a Supervisor.
type Config struct {
	// StateDir holds records and private folders. One supervisor at a time uses it.
	StateDir string
	// Grace is the time between SIGTERM and SIGKILL. Zero: 10 s.
	Grace time.Duration
	// Pauses before a process that died is started again, doubled from MinPause to MaxPause and reset once it ran for
	// MaxPause. Zero: 200 ms and 30 s.
	MinPause, MaxPause time.Duration
	// A process that ended Flaps times without having run for MaxPause flaps: it is started again only every FlapPause. Zero: 6 and 5 min.
	Flaps     int
	FlapPause time.Duration
	// Notify is told what happens to processes, in order, on a goroutine of its own. May be nil.
	Notify func(Notice)
}

// NoticeKind says what happened.
type NoticeKind string

// What happens to a process. Exited is unexpected, Stopped was asked for, Failed is a start again that did not become healthy.
const (
	Started   NoticeKind = "started"
	Exited    NoticeKind = "exited"
	Restarted NoticeKind = "restarted"
	Failed    NoticeKind = "failed"
	Stopped   NoticeKind = "stopped"
	Flaps     NoticeKind = "flaps" // it ends again and again
)

// Notice tells of a process.
type Notice struct {
	Kind   NoticeKind
	Name   string
	PID    int
	Port   int
	Reason string        // how it ended: "exit status 1", "signal: killed"
	Again  time.Duration // after Exited and Failed: the pause before the next start
}

// Supervisor starts processes and keeps them running.
type Supervisor struct {
	config    Config
	lock      *os.File
	leftovers []Leftover
	starts    chan func() // run on the locked thread
	// deathSignal is SIGKILL; a test takes it away to see what the records alone do.
	deathSignal syscall.Signal

	mu        sync.Mutex
	processes map[*Process]struct{}
	closed    bool
	notices   []Notice
	wake      chan struct{}
	done      chan struct{}
	watched   chan struct{} // closed: nothing is watched any more
}

// ErrClosed is returned by Start after Close.
var ErrClosed = errors.New("process supervisor is closed")

// ErrInUse is returned by New while another supervisor has the state folder.
var ErrInUse = errors.New("in use by another supervisor")

// New takes the state folder and ends what an earlier supervisor left running there. It fails while another
// supervisor has the folder.
func New(config Config) (*Supervisor, error) {
	or := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	or(&config.Grace, 10*time.Second)
	or(&config.MinPause, 200*time.Millisecond)
	or(&config.MaxPause, 30*time.Second)
	or(&config.FlapPause, 5*time.Minute)
	if config.Flaps <= 0 {
		config.Flaps = 6
	}
	folder, err := filepath.Abs(config.StateDir)
	if err != nil || config.StateDir == "" {
		return nil, fmt.Errorf("process state folder %q: %w", config.StateDir, errors.Join(err, errors.ErrUnsupported))
	}
	config.StateDir = folder
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("process state folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("process state folder: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, fmt.Errorf("process state folder %s: %w", folder, err)
	}
	s := &Supervisor{config: config, lock: lock, starts: make(chan func()), deathSignal: syscall.SIGKILL, processes: map[*Process]struct{}{},
		wake: make(chan struct{}, 1), done: make(chan struct{}), watched: make(chan struct{})}
	if s.leftovers, err = s.endLeftovers(); err != nil {
		_ = lock.Close()
		return nil, err
	}
	go s.startThread()
	go s.deliver()
	go s.watch()
	return s, nil
}

// Leftovers lists what New ended.
func (s *Supervisor) Leftovers() []Leftover { return s.leftovers }

// startThread is the parent thread of every process, for the parent-death signal.
func (s *Supervisor) startThread() {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	for start := range s.starts {
		start()
	}
}

func (s *Supervisor) notify(n Notice) {
	s.mu.Lock()
	s.notices = append(s.notices, n)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// deliver hands notices on, apart from the goroutines that make them, so that Notify may call Stop.
func (s *Supervisor) deliver() {
	defer close(s.done)
	for range s.wake {
		for {
			s.mu.Lock()
			batch := s.notices
			s.notices = nil
			s.mu.Unlock()
			if len(batch) == 0 {
				break
			}
			for _, n := range batch {
				if s.config.Notify != nil {
					s.config.Notify(n)
				}
			}
		}
	}
}

// Close stops every process, delivers the last notices and gives the state folder up. Not to be called from Notify.
func (s *Supervisor) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	var all []*Process
	for p := range s.processes {
		all = append(all, p)
	}
	s.mu.Unlock()
	var stops sync.WaitGroup
	for _, p := range all {
		stops.Go(func() { p.Stop(ctx) })
	}
	stops.Wait()
	close(s.watched)
	close(s.starts)
	close(s.wake)
	<-s.done
	return s.lock.Close()
}

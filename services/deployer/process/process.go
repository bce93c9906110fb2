//go:build linux

package process

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Spec says what to run.
type Spec struct {
	Name       string // for notices and records
	Dir        string // working folder; empty: the private home
	Executable string
	Args       []string
	// Env holds KEY=VALUE beside PATH, HOME, TMPDIR and PORT. Nothing else is inherited. PORT cannot be set here.
	Env []string
	// HealthPath is asked by GET until it answers 2xx. Empty: the process only has to listen on its port.
	HealthPath string
	// StartTimeout bounds the wait for health. Zero: DefaultStartTimeout.
	StartTimeout time.Duration
	// LogFile takes what the process writes, appended. Empty: dropped.
	LogFile string
	// LogMost bounds the log file: what is beyond goes to LogFile.1, in the place of what was there. Zero: 10 MiB.
	LogMost int64
	// Limits bound the process with all that it starts.
	Limits Limits
}

// Process is a supervised process. It has one port for its whole life, restarts included.
type Process struct {
	supervisor *Supervisor
	spec       Spec
	token      string
	stop       chan struct{} // closed: end, with grace
	hurry      chan struct{} // closed: without
	done       chan struct{}
	stopOnce   sync.Once
	hurryOnce  sync.Once

	// of the run goroutine
	reserved *reservation
	unheld   bool // the program cannot bind a port that is held

	mu       sync.Mutex
	port     int
	pid      int
	flapping string
	over     string
	current  *running
}

// DefaultStartTimeout is a Spec's.
const DefaultStartTimeout = 30 * time.Second

const maxAttempts = 5

var (
	errExited   = errors.New("ended before it was healthy")
	errPortLost = errors.New("somebody else listens on its port")
	errStopped  = errors.New("stopped")
)

// Start runs the program and returns once it is healthy. When it fails, or ctx ends before, nothing is left running.
// After that ctx has no effect: the process runs until Stop.
func (s *Supervisor) Start(ctx context.Context, spec Spec) (*Process, error) {
	if spec.StartTimeout <= 0 {
		spec.StartTimeout = DefaultStartTimeout
	}
	executable, err := filepath.Abs(spec.Executable)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	spec.Executable = executable
	p := &Process{supervisor: s, spec: spec, token: rand.Text(),
		stop: make(chan struct{}), hurry: make(chan struct{}), done: make(chan struct{})}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	s.processes[p] = struct{}{}
	s.mu.Unlock()

	ready := make(chan error, 1)
	go p.run(ready)
	select {
	case err := <-ready:
		if err != nil {
			<-p.done
			return nil, fmt.Errorf("start %s: %w", spec.Name, err)
		}
		return p, nil
	case <-ctx.Done():
		p.Stop(ctx)
		return nil, fmt.Errorf("start %s: %w", spec.Name, context.Cause(ctx))
	}
}

// Port is the port that the process was given.
func (p *Process) Port() int { p.mu.Lock(); defer p.mu.Unlock(); return p.port }

// PID is the process's id and that of its group; 0 while it is down between two runs.
func (p *Process) PID() int { p.mu.Lock(); defer p.mu.Unlock(); return p.pid }

// Flapping is how the process ended the last time, of many without running for long; empty: it does not flap.
func (p *Process) Flapping() string { p.mu.Lock(); defer p.mu.Unlock(); return p.flapping }

// Over is how the process went beyond its limits the last time, until it has run for long again; empty: it did not.
func (p *Process) Over() string { p.mu.Lock(); defer p.mu.Unlock(); return p.over }

// URL is where the process serves.
func (p *Process) URL() string { return fmt.Sprintf("http://127.0.0.1:%d", p.Port()) }

// Stop ends the process and all that it started: SIGTERM to the group, SIGKILL after the grace or when ctx ends. It
// returns when nothing is left, and may be called again.
func (p *Process) Stop(ctx context.Context) {
	p.stopOnce.Do(func() { close(p.stop) })
	select {
	case <-p.done:
	case <-ctx.Done():
		p.hurryOnce.Do(func() { close(p.hurry) })
		<-p.done
	}
}

func (p *Process) notice(kind NoticeKind, pid int, reason string, again time.Duration) {
	p.supervisor.notify(Notice{kind, p.spec.Name, pid, p.Port(), reason, again})
}

// run is the life of the process.
func (p *Process) run(ready chan<- error) {
	s := p.supervisor
	defer close(p.done)
	defer func() {
		s.mu.Lock()
		delete(s.processes, p)
		s.mu.Unlock()
		if p.reserved != nil {
			p.reserved.release()
		}
		endCarriers(p.token) // what left the group
		s.forget(p.token)
	}()
	r, err := p.first()
	if err != nil {
		ready <- err
		return
	}
	p.notice(Started, r.pid, "", 0)
	ready <- nil

	pause, ends := s.config.MinPause, 0
	for {
		var (
			steady <-chan time.Time
			kind   NoticeKind
			reason string
			pid    int
			since  = time.Now()
		)
		if r != nil {
			if ends > 0 {
				steady = time.After(s.config.MaxPause)
			}
			for running := true; running; {
				select {
				case <-p.stop:
					r.end(s.config.Grace, p.hurry)
					p.setPID(0)
					p.notice(Stopped, r.pid, r.reason, 0)
					return
				case <-steady:
					p.calm()
				case <-r.exited:
					running = false
				}
			}
			p.ended(r)
			endCarriers(p.token)
			if time.Since(since) >= s.config.MaxPause {
				pause, ends = s.config.MinPause, 0
			}
			kind, reason, pid = Exited, r.reason, r.pid
		} else {
			kind, reason = Failed, err.Error()
		}
		if ends++; ends >= s.config.Flaps {
			pause = s.config.FlapPause
			if ends == s.config.Flaps {
				p.setFlapping(fmt.Sprintf("it ended %d times without running for %s, the last time: %s%s; it is started again every %s",
					ends, s.config.MaxPause, reason, p.lastWords(), pause))
				p.notice(Flaps, pid, reason, pause)
			}
		}
		if !errors.Is(err, errStopped) {
			p.notice(kind, pid, reason, pause)
		}
		select {
		case <-p.stop:
			p.notice(Stopped, 0, reason, 0)
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, s.config.MaxPause)
		if r, err = p.launch(); err == nil {
			p.notice(Restarted, r.pid, "", 0)
		}
	}
}

// first finds a port on which the process becomes healthy.
func (p *Process) first() (*running, error) {
	var err error
	for attempt := range maxAttempts {
		if p.reserved != nil {
			p.reserved.release()
		}
		if p.reserved, err = reserve(); err != nil {
			return nil, err
		}
		p.mu.Lock()
		p.port = p.reserved.port
		p.mu.Unlock()
		var r *running
		if r, err = p.launch(); err == nil {
			return r, nil
		}
		lost := errors.Is(err, errPortLost) || (p.unheld && errors.Is(err, errExited) && !isFree(p.port))
		if attempt == 0 && errors.Is(err, errExited) {
			p.unheld = true // perhaps it cannot bind a held port; else it ends again and that is the answer
		} else if !lost {
			break
		}
	}
	return nil, err
}

func isFree(port int) bool {
	response, err := (&http.Client{Timeout: time.Second}).Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
	if err != nil {
		return errors.Is(err, errRefused)
	}
	_ = response.Body.Close()
	return false
}

// ended notes that a run is over, and whether it went beyond its limits.
func (p *Process) ended(r *running) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid, p.current = 0, nil
	if r.over != "" {
		p.over = r.reason
	}
}

func (p *Process) calm() { p.mu.Lock(); p.flapping, p.over = "", ""; p.mu.Unlock() }

func (p *Process) setFlapping(text string) { p.mu.Lock(); p.flapping = text; p.mu.Unlock() }

func (p *Process) setPID(pid int) { p.mu.Lock(); p.pid = pid; p.mu.Unlock() }

// launch starts the program once and waits until it is healthy; on an error nothing is left of it.
func (p *Process) launch() (*running, error) {
	if p.unheld {
		p.reserved.release()
	}
	r, err := p.fork()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.pid, p.current = r.pid, r
	p.mu.Unlock()
	if err := p.healthy(r); err != nil {
		grace := p.supervisor.config.Grace
		r.end(grace, p.hurry)
		p.ended(r)
		endCarriers(p.token)
		return nil, err
	}
	return r, nil
}

// healthy waits until the process answers on a port that its own group listens on.
func (p *Process) healthy(r *running) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	timeout := time.After(p.spec.StartTimeout)
	problem := errors.New("it does not listen")
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		owned := false
		sockets, _ := Listening(r.pid)
		for _, socket := range sockets {
			owned = owned || socket.Port == p.port
		}
		if owned && p.spec.HealthPath == "" {
			return nil
		}
		if owned {
			response, err := client.Get(p.URL() + p.spec.HealthPath)
			problem = err
			if err == nil {
				_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<16))
				_ = response.Body.Close()
				if response.StatusCode/100 == 2 {
					return nil
				}
				problem = fmt.Errorf("%s answers %s", p.spec.HealthPath, response.Status)
			}
		}
		select {
		case <-p.stop:
			return errStopped
		case <-r.exited:
			return fmt.Errorf("%w: %s%s", errExited, r.reason, p.lastWords())
		case <-timeout:
			if !owned && !isFree(p.port) {
				return errPortLost
			}
			return fmt.Errorf("not healthy after %s: %w%s", p.spec.StartTimeout, problem, p.lastWords())
		case <-time.After(pause):
		}
	}
}

// lastWords quotes the end of the log, for the reason of a failed start.
func (p *Process) lastWords() string {
	f, err := os.Open(p.spec.LogFile)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > 400 {
		_, _ = f.Seek(-400, io.SeekEnd)
	}
	tail, _ := io.ReadAll(f)
	if len(tail) == 0 {
		return ""
	}
	return fmt.Sprintf("; its log ends %q", tail)
}

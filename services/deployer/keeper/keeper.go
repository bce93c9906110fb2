//go:build linux

package keeper

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/lemnis/lemnis/services/deployer/process"
	"github.com/lemnis/lemnis/services/deployer/proxy"
)

// Protocol is the version of what deployer and front say to each other. A front of another version is ended in order.
const Protocol = 1

// Config of a front.
type Config struct {
	// Folder is the deployer's data folder.
	Folder string
	// Grace bounds the wait for requests in flight, and then for the end of processes. Zero: 10 s.
	Grace time.Duration
	// Alone is how long the front goes on without a deployer. Zero: 10 min.
	Alone time.Duration
	// Patience is how long a deployer waits for what the front does at once, before it takes the front for hanging. Zero: 10 s.
	Patience time.Duration
}

// Defaults of a Config.
const (
	DefaultGrace    = 10 * time.Second
	DefaultAlone    = 10 * time.Minute
	DefaultPatience = 10 * time.Second
)

func (c Config) withDefaults() (Config, error) {
	if c.Grace <= 0 {
		c.Grace = DefaultGrace
	}
	if c.Alone <= 0 {
		c.Alone = DefaultAlone
	}
	if c.Patience <= 0 {
		c.Patience = DefaultPatience
	}
	var err error
	c.Folder, err = filepath.Abs(c.Folder)
	return c, err
}

// State is what a front holds.
type State struct {
	Protocol  int       `json:"protocol"`
	Life      string    `json:"life"` // of this front: another one has counted nothing yet
	PID       int       `json:"pid"`
	Session   int64     `json:"session"`
	Doors     []Door    `json:"doors"`
	Processes []Process `json:"processes"`
}

// Door is a listener and where its users go.
type Door struct {
	Name   string       `json:"name"`
	URL    string       `json:"url"`
	Addr   string       `json:"addr"` // host:port
	Routes proxy.Routes `json:"routes"`
	Note   []byte       `json:"note,omitempty"` // the deployer's
}

// Process is a version of a service that runs.
type Process struct {
	Door    string `json:"door"`
	Version string `json:"version"`
	Digest  string `json:"digest"`
	URL     string `json:"url"`
	Port    int    `json:"port"`
	PID     int    `json:"pid"` // 0 between two runs
	// Flapping is how it ended the last time, of many without running for long; empty: it does not flap.
	Flapping string `json:"flapping,omitempty"`
	// Over is how it went beyond its limits the last time, not long ago.
	Over string `json:"over,omitempty"`
}

// Notice is something to log, and what happened to a process.
type Notice struct {
	Message string          `json:"message"`
	Fields  []any           `json:"fields"`
	Process *process.Notice `json:"process,omitempty"`
}

// keeper is what Run runs.
type keeper struct {
	config     Config
	life       string
	supervisor *process.Supervisor
	wake       chan struct{} // notices wait
	end        chan struct{} // closed: it has to end
	ended      chan struct{} // closed: nothing runs any more
	endOnce    sync.Once

	mu        sync.Mutex
	doors     map[string]*held
	processes map[key]*running
	starting  map[key]chan struct{} // closed when that start is over
	session   int64
	displaced chan struct{} // closed when another deployer attaches; nil without one
	since     time.Time     // it is alone
	notices   []Notice
	closing   bool
}

type held struct {
	front *proxy.Front
	note  []byte
}

type key struct{ door, version string }

type running struct {
	process *process.Process
	digest  string
}

// noticesMost bounds what is kept for a deployer that is away.
const noticesMost = 1000

// open takes the folder, waiting for a front that is still ending.
func open(ctx context.Context, c Config) (*keeper, error) {
	k := &keeper{config: c, life: rand.Text(), wake: make(chan struct{}, 1), end: make(chan struct{}), ended: make(chan struct{}),
		doors: map[string]*held{}, processes: map[key]*running{}, starting: map[key]chan struct{}{}, since: time.Now()}
	for _, folder := range []string{c.Folder, filepath.Join(c.Folder, "front"), filepath.Join(c.Folder, "logs")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, fmt.Errorf("the front's data: %w", err)
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		supervisor, err := process.New(process.Config{StateDir: filepath.Join(c.Folder, "processes"), Grace: c.Grace, Notify: func(n process.Notice) {
			k.notice(Notice{"process " + string(n.Kind), []any{"rollout", n.Name, "pid", n.PID, "port", n.Port, "reason", n.Reason, "again", n.Again.String()}, &n})
		}})
		if err == nil {
			k.supervisor = supervisor
			for _, l := range supervisor.Leftovers() {
				k.notice(Notice{Message: "ended what was left of an earlier run", Fields: []any{"rollout", l.Name, "pids", fmt.Sprint(l.PIDs)}})
			}
			return k, nil
		}
		if !errors.Is(err, process.ErrInUse) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-tick.C:
		}
	}
}

// notice keeps what the deployer is to be told.
func (k *keeper) notice(n Notice) {
	k.mu.Lock()
	if len(k.notices) < noticesMost {
		k.notices = append(k.notices, n)
	}
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *keeper) state() State {
	s := State{Protocol: Protocol, Life: k.life, PID: os.Getpid(), Session: k.session}
	for _, name := range slices.Sorted(maps.Keys(k.doors)) {
		s.Doors = append(s.Doors, k.doors[name].door(name))
	}
	for at, r := range k.processes {
		s.Processes = append(s.Processes, r.describe(at))
	}
	return s
}

func (h *held) door(name string) Door {
	return Door{Name: name, URL: h.front.URL(), Addr: h.front.Addr(), Routes: h.front.Routes(), Note: h.note}
}

func (r *running) describe(at key) Process {
	return Process{Door: at.door, Version: at.version, Digest: r.digest, URL: r.process.URL(), Port: r.process.Port(), PID: r.process.PID(), Flapping: r.process.Flapping(), Over: r.process.Over()}
}

var (
	errNoDoor    = errors.New("the front has no such door")
	errNoProcess = errors.New("the front runs no such process")
	errClosing   = errors.New("the front is ending")
	errDisplaced = errors.New("another deployer has attached")
)

func (k *keeper) open(q openRequest) (Door, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closing {
		return Door{}, errClosing
	}
	h := k.doors[q.Name]
	if h == nil {
		config := q.Config
		config.Log = func(message string, fields ...any) { k.notice(Notice{Message: message, Fields: fields}) }
		front, err := proxy.New(config)
		if err != nil {
			return Door{}, err
		}
		h = &held{front: front}
		k.doors[q.Name] = h
	} else if err := h.front.SetFeatures(q.Config.Features); err != nil {
		return Door{}, err
	}
	return h.door(q.Name), nil
}

// shut closes a door that nobody is to come through.
func (k *keeper) shut(ctx context.Context, q doorRequest) error {
	k.mu.Lock()
	h := k.doors[q.Door]
	delete(k.doors, q.Door)
	k.mu.Unlock()
	if h == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, k.config.Grace)
	defer cancel()
	return h.front.Close(ctx)
}

func (k *keeper) held(name string) (*held, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h := k.doors[name]
	if h == nil {
		return nil, fmt.Errorf("%w: %s", errNoDoor, name)
	}
	return h, nil
}

func (k *keeper) remember(q noteRequest) error {
	h, err := k.held(q.Door)
	if err == nil {
		k.mu.Lock()
		h.note = q.Note
		k.mu.Unlock()
	}
	return err
}

// start returns once the process is healthy. When its deployer goes away before, or another one attaches, nothing is left of it: the
// next one has read what runs.
func (k *keeper) start(ctx context.Context, session int64, q startRequest) (Process, error) {
	at := key{q.Door, q.Version}
	k.mu.Lock()
	for other := k.starting[at]; other != nil; other = k.starting[at] {
		k.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return Process{}, ctx.Err()
		}
		k.mu.Lock()
	}
	if k.session != session {
		k.mu.Unlock()
		return Process{}, errDisplaced
	}
	if r := k.processes[at]; r != nil {
		defer k.mu.Unlock()
		if r.digest != q.Digest {
			return Process{}, fmt.Errorf("%s runs already, and is %s, not %s", q.Version, r.digest, q.Digest)
		}
		return r.describe(at), nil
	}
	over, displaced := make(chan struct{}), k.displaced
	k.starting[at] = over
	k.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-displaced:
			cancel()
		case <-over:
		}
	}()
	p, err := k.supervisor.Start(ctx, q.Spec)
	r := &running{p, q.Digest}
	k.mu.Lock()
	switch {
	case err != nil:
	case k.session == session:
		k.processes[at] = r
	default:
		k.mu.Unlock()
		cancel()
		p.Stop(ctx)
		err = errDisplaced
		k.mu.Lock()
	}
	delete(k.starting, at)
	k.mu.Unlock()
	close(over)
	if err != nil {
		return Process{}, err
	}
	return r.describe(at), nil
}

func (k *keeper) process(q versionRequest) (Process, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := key{q.Door, q.Version}
	r := k.processes[at]
	if r == nil {
		return Process{}, fmt.Errorf("%w: %s", errNoProcess, q.Version)
	}
	return r.describe(at), nil
}

// stop ends a process and forgets what it counted.
func (k *keeper) stop(ctx context.Context, q versionRequest) {
	at := key{q.Door, q.Version}
	k.mu.Lock()
	r, h := k.processes[at], k.doors[q.Door]
	delete(k.processes, at)
	k.mu.Unlock()
	if r != nil {
		r.process.Stop(ctx)
	}
	if h != nil {
		h.front.Forget(q.Version)
	}
}

// deaf is why nothing that the deployer of a session asks for is done any more, or nil.
func (k *keeper) deaf(session int64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.session != session:
		return errDisplaced
	case k.closing:
		return errClosing
	}
	return nil
}

// close ends listeners, requests in flight first, and then processes. Each has a grace of its own: requests that hang do not
// cost the processes their orderly end.
func (k *keeper) close() {
	k.mu.Lock()
	if k.closing {
		k.mu.Unlock()
		<-k.ended
		return
	}
	k.closing = true
	doors := maps.Clone(k.doors)
	k.mu.Unlock()
	draining, cancel := context.WithTimeout(context.Background(), k.config.Grace)
	defer cancel()
	var wg sync.WaitGroup
	for name, h := range doors {
		wg.Go(func() {
			if err := h.front.Close(draining); err != nil {
				k.notice(Notice{Message: "closed with requests in flight", Fields: []any{"at", name, "error", err.Error()}})
			}
		})
	}
	wg.Wait()
	ending, cancel := context.WithTimeout(context.Background(), k.config.Grace+time.Second) // the supervisor kills after the grace
	defer cancel()
	if err := k.supervisor.Close(ending); err != nil {
		k.notice(Notice{Message: "processes did not end in order", Fields: []any{"error", err.Error()}})
	}
	close(k.ended)
}

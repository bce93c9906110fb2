//go:build linux

package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/lemnis/lemnis/services/deployer/process"
	"github.com/lemnis/lemnis/services/deployer/proxy"
)

// Argument is the one that makes a program of Lemnis a front: `<program> deployer-front FOLDER GRACE ALONE`.
const Argument = "deployer-front"

// Main runs a front when the arguments of the program ask for one; otherwise done is false. The exit code is 0 after an
// orderly end.
func Main(args []string) (code int, done bool) {
	if len(args) < 2 || args[1] != Argument {
		return 0, false
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	c, err := readArguments(args[2:])
	if err == nil {
		err = Run(ctx, c)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s %v\n", time.Now().UTC().Format(time.RFC3339), err)
		return 1, true
	}
	return 0, true
}

func readArguments(args []string) (Config, error) {
	if len(args) != 3 {
		return Config{}, fmt.Errorf("%s needs a folder, a grace and how long it may be alone; the deployer starts it", Argument)
	}
	grace, err1 := time.ParseDuration(args[1])
	alone, err2 := time.ParseDuration(args[2])
	return Config{Folder: args[0], Grace: grace, Alone: alone}, errors.Join(err1, err2)
}

func (c Config) arguments() []string {
	return []string{Argument, c.Folder, c.Grace.String(), c.Alone.String()}
}

// starting bounds the wait for a front before that still ends.
const starting = 30 * time.Second

// Run is a front, until a deployer ends it, it was alone too long, or ctx ends.
func Run(ctx context.Context, c Config) error {
	c, err := c.withDefaults()
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, starting)
	defer cancel()
	k, err := open(wait, c)
	if err != nil {
		return err
	}
	err = k.serve(ctx)
	k.close() //nolint:contextcheck // what ends has its grace, whoever asked for it
	return err
}

// socketIn is the socket's address by its folder's descriptor: an address has at most 107 bytes, a path more.
func socketIn(folder uintptr) string { return fmt.Sprintf("/proc/self/fd/%d/socket", folder) }

func (k *keeper) serve(ctx context.Context) error {
	folder, err := os.Open(filepath.Join(k.config.Folder, "front"))
	if err != nil {
		return fmt.Errorf("the front's folder: %w", err)
	}
	defer func() { _ = folder.Close() }()
	address := socketIn(folder.Fd())
	_ = os.Remove(address) // of a front that was killed: the supervisor's lock says that there is no other
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return fmt.Errorf("the front's socket: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	if err := os.Chmod(address, 0o600); err != nil {
		_ = listener.Close()
		return fmt.Errorf("the front's socket: %w", err)
	}
	server := &http.Server{Handler: k.handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(&guarded{listener, k}) }()
	k.wait(ctx)
	_ = os.Remove(address)
	k.close() //nolint:contextcheck // what ends has its grace, whoever asked for it
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if server.Shutdown(ending) != nil { // the deployer does not read what it is told
		_ = server.Close()
	}
	return nil
}

// wait returns when the front has to end.
func (k *keeper) wait(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.end:
			return
		case <-tick.C:
		}
		k.mu.Lock()
		alone := k.displaced == nil
		since := k.since
		k.mu.Unlock()
		if !alone {
			continue
		}
		_, err := os.Stat(filepath.Join(k.config.Folder, "front", "socket")) //nolint:gosec // the folder is the deployer's
		if time.Since(since) > k.config.Alone || errors.Is(err, os.ErrNotExist) {
			return
		}
	}
}

// guarded accepts only whom the kernel says to be of the same user, and none of the services' processes.
type guarded struct {
	*net.UnixListener
	k *keeper
}

func (g *guarded) Accept() (net.Conn, error) {
	for {
		c, err := g.AcceptUnix()
		if err != nil {
			return nil, err
		}
		pid, err := peer(c)
		if err == nil && g.k.supervisor.Runs(pid) {
			err = fmt.Errorf("process %d is a service's", pid)
		}
		if err == nil {
			return c, nil
		}
		_ = c.Close()
		g.k.notice(Notice{Message: "somebody else wanted to command the front", Fields: []any{"error", err.Error()}})
	}
}

func peer(c *net.UnixConn) (pid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var who *syscall.Ucred
	failed := raw.Control(func(fd uintptr) { who, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED) })
	if failed != nil || err != nil {
		return 0, errors.Join(failed, err)
	}
	if int(who.Uid) != os.Getuid() {
		return 0, fmt.Errorf("process %d is user %d's", who.Pid, who.Uid)
	}
	return int(who.Pid), nil
}

// What the deployer asks.
type (
	openRequest struct {
		Name   string       `json:"name"`
		Config proxy.Config `json:"config"`
	}
	doorRequest  struct{ Door string }
	routeRequest struct {
		Door   string
		Routes proxy.Routes
	}
	faultRequest struct {
		Door  string
		Fault proxy.Fault
	}
	noteRequest struct {
		Door string
		Note []byte
	}
	versionRequest struct{ Door, Version string }
	startRequest   struct {
		Door, Version, Digest string
		Spec                  process.Spec
	}
	nothing struct{}
)

const sessionHeader = "Lemnis-Session"

func (k *keeper) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /attach", k.attach)
	mux.HandleFunc("POST /open", answer(k, func(_ context.Context, q openRequest) (Door, error) { return k.open(q) }))
	mux.HandleFunc("POST /shut", answer(k, func(ctx context.Context, q doorRequest) (nothing, error) { return nothing{}, k.shut(ctx, q) }))
	mux.HandleFunc("POST /route", answer(k, func(_ context.Context, q routeRequest) (nothing, error) {
		h, err := k.held(q.Door)
		if err == nil {
			err = h.front.SetRoutes(q.Routes)
		}
		return nothing{}, err
	}))
	mux.HandleFunc("POST /fault", answer(k, func(_ context.Context, q faultRequest) (nothing, error) {
		h, err := k.held(q.Door)
		if err == nil {
			err = h.front.SetFault(q.Fault)
		}
		return nothing{}, err
	}))
	mux.HandleFunc("POST /snapshot", answer(k, func(_ context.Context, q doorRequest) (proxy.Snapshot, error) {
		h, err := k.held(q.Door)
		if err != nil {
			return proxy.Snapshot{}, err
		}
		return h.front.Snapshot(), nil
	}))
	mux.HandleFunc("POST /remember", answer(k, func(_ context.Context, q noteRequest) (nothing, error) { return nothing{}, k.remember(q) }))
	mux.HandleFunc("POST /drain", answer(k, func(ctx context.Context, q versionRequest) (nothing, error) {
		h, err := k.held(q.Door)
		if err != nil {
			return nothing{}, err
		}
		select {
		case <-h.front.Drain(q.Version):
			return nothing{}, nil
		case <-ctx.Done():
			return nothing{}, ctx.Err()
		}
	}))
	mux.HandleFunc("POST /state", answer(k, func(context.Context, nothing) (State, error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.state(), nil
	}))
	mux.HandleFunc("POST /start", answerIn(k, k.start))
	mux.HandleFunc("POST /process", answer(k, func(_ context.Context, q versionRequest) (Process, error) { return k.process(q) }))
	mux.HandleFunc("POST /stop", answer(k, func(ctx context.Context, q versionRequest) (nothing, error) {
		k.stop(context.WithoutCancel(ctx), q) // also when the deployer that asked does not wait for it
		return nothing{}, nil
	}))
	mux.HandleFunc("POST /close", answer(k, func(context.Context, nothing) (nothing, error) {
		k.endOnce.Do(func() { close(k.end) })
		<-k.ended
		return nothing{}, nil
	}))
	return mux
}

// answer is answerIn for what is the same in every session.
func answer[Q, A any](k *keeper, do func(context.Context, Q) (A, error)) http.HandlerFunc {
	return answerIn(k, func(ctx context.Context, _ int64, q Q) (A, error) { return do(ctx, q) })
}

// answerIn decodes a question of the deployer that is attached, and encodes the answer: 422 with the reason where there is none, but
// 409 or 503 where that may be because another deployer came or the front ends.
func answerIn[Q, A any](k *keeper, do func(context.Context, int64, Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		session, err := strconv.ParseInt(r.Header.Get(sessionHeader), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var q Q
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if errors.Is(k.deaf(session), errDisplaced) {
			http.Error(w, errDisplaced.Error(), http.StatusConflict)
			return
		}
		a, err := do(r.Context(), session, q)
		if err == nil {
			_ = json.NewEncoder(w).Encode(a)
			return
		}
		status := http.StatusUnprocessableEntity
		switch why := k.deaf(session); {
		case errors.Is(why, errDisplaced):
			status, err = http.StatusConflict, fmt.Errorf("%w: %w", why, err)
		case why != nil:
			status, err = http.StatusServiceUnavailable, fmt.Errorf("%w: %w", why, err)
		}
		http.Error(w, err.Error(), status)
	}
}

// attach makes the caller the one who commands: what it holds at once, then what there is to tell, line by line.
func (k *keeper) attach(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	closing := k.closing
	k.mu.Unlock()
	if closing {
		http.Error(w, errClosing.Error(), http.StatusServiceUnavailable)
		return
	}
	encoder, control := json.NewEncoder(w), http.NewResponseController(w)
	if control.Flush() != nil { // who went away before the front came to answer displaces nobody
		return
	}
	displaced := make(chan struct{})
	k.mu.Lock()
	if k.closing {
		k.mu.Unlock()
		return
	}
	k.session++
	if k.displaced != nil {
		close(k.displaced)
	}
	k.displaced = displaced
	state := k.state()
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.displaced == displaced {
			k.displaced, k.since = nil, time.Now()
		}
	}()
	if encoder.Encode(state) != nil || control.Flush() != nil {
		return
	}
	for last := false; ; {
		k.mu.Lock()
		batch := k.notices
		if k.displaced == displaced {
			k.notices = nil
		}
		k.mu.Unlock()
		for _, n := range batch {
			if encoder.Encode(n) != nil {
				return
			}
		}
		if control.Flush() != nil || last {
			return
		}
		select {
		case <-k.wake:
		case <-displaced:
			return
		case <-r.Context().Done():
			return
		case <-k.ended:
			last = true
		}
	}
}

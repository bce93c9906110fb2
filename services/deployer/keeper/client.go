//go:build linux

package keeper

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lemnis/lemnis/services/deployer/process"
	"github.com/lemnis/lemnis/services/deployer/proxy"
)

// ErrGone says that the front does not answer any more, or that another deployer commands it.
var ErrGone = errors.New("the front is gone")

// ErrHangs says that the front has not answered in time: what was asked for may be done later, or never.
var ErrHangs = errors.New("the front hangs")

// Refusal is why the front did not do what it was asked.
type Refusal struct{ Reason string }

func (r *Refusal) Error() string { return r.Reason }

// Client commands a front.
type Client struct {
	http   *http.Client
	folder *os.File
	stream io.Closer
	cancel context.CancelFunc // of the stream's request
	state  State
	config Config
	done   chan struct{} // closed when the front is gone
	once   sync.Once
}

// Attach takes over the front of a data folder; where none answers, it starts one: the command with the front's arguments, in a
// session of its own, or, without a command, a front within this process. Log is told what the front has to tell, from its
// beginning on. The caller holds the folder: of two deployers the front obeys the later one.
func Attach(ctx context.Context, c Config, command []string, log func(Notice)) (*Client, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	for _, folder := range []string{c.Folder, filepath.Join(c.Folder, "front"), filepath.Join(c.Folder, "logs")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, fmt.Errorf("the front's folder: %w", err)
		}
	}
	wait, cancel := context.WithTimeout(ctx, starting)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var ended <-chan error
	abandon := func() {}
	var why error // before wait ended
	for {
		k, err := attach(wait, c.Folder, log)
		if err == nil && k.state.Protocol == Protocol {
			k.config = c
			return k, nil
		}
		if err == nil { // another version's: users are away for as long as it takes
			err = k.Close(wait)
		} else if ended == nil && wait.Err() == nil {
			if ended, abandon, err = launch(ctx, c, command); err != nil {
				return nil, err
			}
		}
		if wait.Err() == nil {
			why = err
		}
		select {
		case failed := <-ended:
			return nil, fmt.Errorf("the front did not start: %w", failed)
		case <-wait.Done():
			abandon()
			return nil, fmt.Errorf("the front does not answer: %w", errors.Join(why, wait.Err()))
		case <-tick.C:
		}
	}
}

// logMost bounds what a front before has said.
const logMost = 1 << 20

// launch starts a front. The channel says that it has ended, and why. Whoever gets no hold of it abandons it: one within this
// process is ended, any other waits for the next deployer.
func launch(ctx context.Context, c Config, command []string) (ended chan error, abandon func(), err error) {
	ended = make(chan error, 1)
	if len(command) == 0 {
		running, stop := context.WithCancel(context.WithoutCancel(ctx))
		over := make(chan struct{})
		go func() {
			defer close(over)
			defer stop()
			ended <- Run(running, c)
		}()
		return ended, func() { stop(); <-over }, nil
	}
	file := filepath.Join(c.Folder, "logs", "front.log")
	if info, err := os.Stat(file); err == nil && info.Size() > logMost {
		_ = os.Remove(file)
	}
	output, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("the front's log: %w", err)
	}
	defer func() { _ = output.Close() }()                                                              // the front has its own
	cmd := exec.Command(command[0], append(command[1:len(command):len(command)], c.arguments()...)...) //nolint:noctx,gosec // it outlives this process; the command is this program's own
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", output, output
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // no secret of the deployer's is any business of its services
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start the front: %w", err)
	}
	go func() {
		err := cmd.Wait()
		if err == nil {
			err = errors.New("it ended")
		}
		ended <- fmt.Errorf("%w; %s may say why", err, file)
	}()
	return ended, func() {}, nil
}

// attach takes over a front that answers before ctx ends; a front that hangs still accepts connections.
func attach(ctx context.Context, data string, log func(Notice)) (*Client, error) {
	folder, err := os.Open(filepath.Join(data, "front")) //nolint:gosec // the folder is the operator's
	if err != nil {
		return nil, err
	}
	k := &Client{folder: folder, done: make(chan struct{}), http: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dial(ctx, folder)
		},
	}}}
	var streaming context.Context
	streaming, k.cancel = context.WithCancel(context.WithoutCancel(ctx))
	detach := context.AfterFunc(ctx, k.cancel) // until it has answered
	lines, err := k.open(streaming)
	if !detach() {
		err = ctx.Err()
	}
	if err != nil {
		k.cancel()
		k.http.CloseIdleConnections()
		_ = folder.Close()
		return nil, err
	}
	go func() {
		defer close(k.done)
		for {
			var n Notice
			if lines.Decode(&n) != nil {
				return
			}
			log(n)
		}
	}()
	return k, nil
}

// dial connects to the socket in a folder, which whoever gives up may close at the same time.
func dial(ctx context.Context, folder *os.File) (conn net.Conn, err error) {
	held, err := folder.SyscallConn()
	if err != nil {
		return nil, err
	}
	if closed := held.Control(func(descriptor uintptr) {
		conn, err = (&net.Dialer{}).DialContext(ctx, "unix", socketIn(descriptor))
	}); closed != nil {
		return nil, closed
	}
	return conn, err
}

// open asks for the stream and reads what comes first: what the front holds.
func (k *Client) open(ctx context.Context) (*json.Decoder, error) {
	response, err := k.post(ctx, "attach", nothing{})
	if err != nil {
		return nil, err
	}
	k.stream = response.Body
	lines := json.NewDecoder(response.Body)
	if err := lines.Decode(&k.state); err != nil {
		_ = response.Body.Close()
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	return lines, nil
}

// State is what the front held when it was attached to.
func (k *Client) State() State { return k.state }

// Done is closed when the front is gone.
func (k *Client) Done() <-chan struct{} { return k.done }

func (k *Client) post(ctx context.Context, path string, q any) (*http.Response, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://front/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set(sessionHeader, strconv.FormatInt(k.state.Session, 10))
	response, err := k.http.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	text, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	_ = response.Body.Close()
	reason := strings.TrimSpace(string(text))
	if response.StatusCode == http.StatusUnprocessableEntity {
		return nil, &Refusal{reason}
	}
	return nil, fmt.Errorf("%w: %s", ErrGone, reason)
}

// call waits for an answer. What takes time by its nature is told how much, beside the patience; forever is the caller's business.
func call[A any](ctx context.Context, k *Client, path string, takes time.Duration, q any) (a A, err error) {
	if takes != forever {
		most := k.config.Patience + takes
		asking, cancel := context.WithTimeout(ctx, most)
		defer cancel()
		defer func() {
			if err != nil && ctx.Err() == nil && asking.Err() != nil {
				err = fmt.Errorf("%w: no answer to %s within %s", ErrHangs, path, most)
			}
		}()
		return answered[A](asking, k, path, q)
	}
	return answered[A](ctx, k, path, q)
}

const forever time.Duration = -1

func answered[A any](ctx context.Context, k *Client, path string, q any) (a A, err error) {
	response, err := k.post(ctx, path, q)
	if err != nil {
		return a, err
	}
	defer func() { _ = response.Body.Close() }()
	if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
		return a, fmt.Errorf("%w: %w", ErrGone, err)
	}
	return a, nil
}

// Open opens a door. Where there is one of this name it stays as it is, but for the features, which are c's from now on; a front of a
// version before leaves them too.
func (k *Client) Open(ctx context.Context, name string, c proxy.Config) (Door, error) {
	return call[Door](ctx, k, "open", 0, openRequest{name, c})
}

// Shut closes a door.
func (k *Client) Shut(ctx context.Context, door string) error {
	_, err := call[nothing](ctx, k, "shut", k.config.Grace, doorRequest{door})
	return err
}

// Route sends new requests by the routes.
func (k *Client) Route(ctx context.Context, door string, r proxy.Routes) error {
	_, err := call[nothing](ctx, k, "route", 0, routeRequest{door, r})
	return err
}

// Fault makes a version fail on purpose.
func (k *Client) Fault(ctx context.Context, door string, f proxy.Fault) error {
	_, err := call[nothing](ctx, k, "fault", 0, faultRequest{door, f})
	return err
}

// Snapshot is what a door has counted.
func (k *Client) Snapshot(ctx context.Context, door string) (proxy.Snapshot, error) {
	return call[proxy.Snapshot](ctx, k, "snapshot", 0, doorRequest{door})
}

// Remember keeps a note with a door for as long as its counts last.
func (k *Client) Remember(ctx context.Context, door string, note []byte) error {
	_, err := call[nothing](ctx, k, "remember", 0, noteRequest{door, note})
	return err
}

// Drain returns when a version is in no route and none of its requests is in flight, or ctx ends.
func (k *Client) Drain(ctx context.Context, door, version string) error {
	_, err := call[nothing](ctx, k, "drain", forever, versionRequest{door, version})
	return err
}

// Start runs a version unless it runs, and returns once it is healthy; another start of it, or one that ends, is waited for. The error is a [*Refusal] when it does not get there.
func (k *Client) Start(ctx context.Context, door, version, digest string, spec process.Spec) (Process, error) {
	return call[Process](ctx, k, "start", 2*cmp.Or(spec.StartTimeout, process.DefaultStartTimeout)+k.config.Grace, startRequest{door, version, digest, spec})
}

// Now is what the front holds now. A front of a version before knows no such question, and refuses it.
func (k *Client) Now(ctx context.Context) (State, error) {
	return call[State](ctx, k, "state", 0, nothing{})
}

// Process describes a version that runs.
func (k *Client) Process(ctx context.Context, door, version string) (Process, error) {
	return call[Process](ctx, k, "process", 0, versionRequest{door, version})
}

// Stop ends the process of a version, with its grace, and forgets its counts.
func (k *Client) Stop(ctx context.Context, door, version string) error {
	_, err := call[nothing](ctx, k, "stop", 2*k.config.Grace, versionRequest{door, version})
	return err
}

// Close ends the front in order and returns when it has told the last it has to tell.
func (k *Client) Close(ctx context.Context) error {
	_, err := call[nothing](ctx, k, "close", forever, nothing{})
	if err == nil {
		select {
		case <-k.done:
		case <-ctx.Done():
		}
	}
	k.Leave()
	return err
}

// Leave goes away from the front, which goes on without a deployer.
func (k *Client) Leave() {
	k.once.Do(func() {
		k.cancel()
		_ = k.stream.Close()
		<-k.done
		k.http.CloseIdleConnections()
		_ = k.folder.Close()
	})
}

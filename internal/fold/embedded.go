package fold

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// SnapshotFile is the name of the embedded store's snapshot in its folder.
const SnapshotFile = "folds.snap"

const (
	defaultInterval = 3 * time.Second
	// A snapshot holds commands up, so that a large one is made less often:
	// at most this part of the time.
	snapshotShare = 20
	// To let keys expire, miniredis looks at all of them in their order. With each command, as it offers to, that took
	// nearly all the time of a store of thousands of keys: it is done this often, and in this part of the time, at most. A
	// key may expire so much too early.
	ageEvery  = 5 * time.Millisecond
	ageShare  = 20
	ageSeldom = 200 * time.Millisecond
)

// An Option of the embedded store.
type Option func(*embedded)

// WithLogger takes what the store has to say of its snapshots, instead of the
// standard log.
func WithLogger(logf func(format string, args ...any)) Option {
	return func(e *embedded) { e.logf = logf }
}

// WithInterval sets how long after a change the snapshot is written, at the
// earliest; 3 s otherwise.
func WithInterval(d time.Duration) Option {
	return func(e *embedded) { e.interval = d }
}

// Embedded makes a store inside the process. With a folder, its content is
// that of the folder's snapshot, and kept there; with "" it is in memory only.
// Its client must not be used for commands that block (BLPOP and the like):
// they would hold snapshots up.
func Embedded(dir string, options ...Option) (*Store, error) {
	e := &embedded{
		mini: miniredis.NewMiniRedis(), interval: defaultInterval, logf: log.Printf,
		quit: make(chan struct{}), done: make(chan struct{}),
	}
	for _, option := range options {
		option(e)
	}
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("create the folder of the folds: %w", err)
		}
		e.path = filepath.Join(dir, SnapshotFile)
		if err := readSnapshot(e.path, e.mini); err != nil && !errors.Is(err, os.ErrNotExist) {
			e.logf("fold: snapshot %s is ignored, folds are rebuilt from the stream: %v", e.path, err)
			e.mini.FlushAll()
		}
	}
	e.aged = time.Now()
	// The first connection starts miniredis without a port.
	first, err := e.mini.Dial()
	if err != nil {
		return nil, fmt.Errorf("start the embedded store: %w", err)
	}
	_ = first.Close()
	e.server = e.mini.Server()
	client := redis.NewClient(&redis.Options{
		Addr:            "embedded",
		Dialer:          e.dial,
		Protocol:        2,
		DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	})
	client.AddHook(e)
	if err := client.Ping(context.Background()).Err(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the embedded store: %w", err), client.Close())
	}
	go e.run()
	return &Store{client: client, embedded: e}, nil
}

// embedded is the store and what writes its snapshots. It hooks into the
// client, to know of changes, and to keep a snapshot from standing between two
// commands of a pipeline or transaction.
type embedded struct {
	mini     *miniredis.Miniredis
	server   *server.Server
	path     string // "" for memory only
	interval time.Duration
	logf     func(format string, args ...any)

	commands sync.RWMutex // held for reading by each command
	changes  atomic.Uint64
	written  uint64 // changes as of the last snapshot

	aging sync.Mutex
	aged  time.Time     // up to when keys have expired
	pause time.Duration // until they do so again

	quit, done chan struct{}
	closing    sync.Once
	closed     error
}

func (e *embedded) dial(context.Context, string, string) (net.Conn, error) {
	client, end := pipe()
	e.server.ServeConn(end)
	return client, nil
}

func (e *embedded) run() {
	defer close(e.done)
	if e.path == "" {
		return
	}
	wait := e.interval
	for {
		select {
		case <-e.quit:
			return
		case <-time.After(wait):
		}
		took, err := e.snapshot()
		if err != nil {
			e.logf("fold: snapshot: %v", err)
		}
		wait = max(e.interval, took*snapshotShare)
	}
}

// snapshot writes the content when it changed, and says how long it held
// commands up.
func (e *embedded) snapshot() (took time.Duration, err error) {
	if e.path == "" || e.changes.Load() == e.written {
		return 0, nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(e.path), SnapshotFile+".*")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already when it was renamed

	e.age(true)
	e.commands.Lock()
	start := time.Now()
	changes := e.changes.Load()
	writeErr := writeSnapshot(tmp, e.mini.DB(0), start, e.logf)
	e.commands.Unlock()
	took = time.Since(start)

	if err := errors.Join(writeErr, tmp.Sync(), tmp.Close()); err != nil {
		return took, err
	}
	if err := os.Rename(tmp.Name(), e.path); err != nil {
		return took, err
	}
	e.written = changes
	return took, nil
}

func (e *embedded) close(client *redis.Client) error {
	e.closing.Do(func() {
		close(e.quit)
		<-e.done
		_, err := e.snapshot()
		e.closed = errors.Join(err, client.Close())
		e.mini.Close()
	})
	return e.closed
}

// within marks the context of a command that holds snapshots up. The command may open a connection, whose greeting goes
// through the hooks again: were that to wait for a snapshot that waits for the command, both would for ever.
type within struct{}

func (e *embedded) hold(ctx context.Context) (held context.Context, release func()) {
	if ctx.Value(within{}) != nil {
		return ctx, func() {}
	}
	e.commands.RLock()
	return context.WithValue(ctx, within{}, true), e.commands.RUnlock
}

// age lets keys expire; when it is not asked to do so now, only after a pause.
func (e *embedded) age(now bool) {
	e.aging.Lock()
	defer e.aging.Unlock()
	start := time.Now()
	passed := start.Sub(e.aged)
	if passed < e.pause && !now {
		return
	}
	e.mini.FastForward(passed)
	e.aged, e.pause = start, min(max(ageEvery, ageShare*time.Since(start)), ageSeldom)
}

// DialHook is there for redis.Hook.
func (e *embedded) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook notes changes by single commands.
func (e *embedded) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		ctx, release := e.hold(ctx)
		defer release()
		e.age(false)
		defer e.note(cmd)
		e.beforeWipe(cmd)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook notes changes by pipelines and transactions.
func (e *embedded) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		ctx, release := e.hold(ctx)
		defer release()
		e.age(false)
		defer e.note(cmds...)
		e.beforeWipe(cmds...)
		return next(ctx, cmds)
	}
}

func (e *embedded) note(cmds ...redis.Cmder) {
	for _, cmd := range cmds {
		if !e.mini.IsReadOnlyCommand(cmd.Name()) {
			e.changes.Add(1)
			return
		}
	}
}

// beforeWipe deletes the positions one by one ahead of a flush: unlike a
// Redis, miniredis does not fail a transaction that watches what was flushed.
func (e *embedded) beforeWipe(cmds ...redis.Cmder) {
	for _, cmd := range cmds {
		if name := cmd.Name(); name != "flushall" && name != "flushdb" {
			continue
		}
		for _, key := range e.mini.DB(0).Keys() {
			if strings.HasPrefix(key, positionPrefix) {
				e.mini.DB(0).Del(key)
			}
		}
	}
}

package fold

import (
	"context"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// whileDialing runs a func when a connection is opened, which is within a command.
type whileDialing func()

func (h whileDialing) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		h()
		return next(ctx, network, addr)
	}
}

func (whileDialing) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (whileDialing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A snapshot that is due while a command opens a connection waits for the command, and the command not for it.
func TestSnapshotDueWhileConnecting(t *testing.T) {
	s, err := Embedded(t.TempDir(), WithInterval(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	e := s.embedded
	done := make(chan error, 1)
	s.client.AddHook(whileDialing(func() {
		go func() { _, err := e.snapshot(); done <- err }()
		for e.commands.TryRLock() { // until the snapshot waits
			e.commands.RUnlock()
			runtime.Gosched()
		}
	}))
	held := s.client.Conn() // takes the only open connection away
	if err := held.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	set := make(chan error, 1)
	go func() {
		_, err := s.client.Pipelined(context.Background(), func(p redis.Pipeliner) error { p.Set(context.Background(), "k", "v", 0); return nil })
		set <- err
	}()
	for _, one := range []chan error{set, done} {
		select {
		case err := <-one:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("command and snapshot wait for each other")
		}
	}
	if err := held.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

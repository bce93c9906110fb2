// Package uptest runs an installation within a test.
package uptest

import (
	"cmp"
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/lemnis/lemnis/cmd/lemnis/up"
)

// patience is for an installation that gets ready on a busy machine.
const patience = time.Minute

// Run runs all services in this process, on free ports of loopback and in a folder of the test where none is named, and returns when they
// are ready. It ends with the test, or when stop is called; not in order, the test has failed.
func Run(tb testing.TB, o up.Options) (stack *up.Stack, stop func()) {
	tb.Helper()
	if o.Data == "" {
		o.Data = tb.TempDir()
	}
	o.HTTP, o.NATSListen = cmp.Or(o.HTTP, "127.0.0.1:0"), cmp.Or(o.NATSListen, "127.0.0.1:0")
	if o.Log == nil {
		o.Log = zaptest.NewLogger(tb, zaptest.Level(zap.ErrorLevel))
	}
	stack, err := up.New(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context())) // the test's own ends before its cleanups
	ended := make(chan error, 1)
	go func() { ended <- stack.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		tb.Helper()
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("it did not end in order: %v", err)
		}
	})
	tb.Cleanup(stop)
	select {
	case <-stack.Ready():
	case err := <-ended:
		ended <- nil
		tb.Fatalf("it ended before it was ready: %v", err)
	case <-time.After(patience):
		tb.Fatal("it does not get ready")
	}
	return stack, stop
}

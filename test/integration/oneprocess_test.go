package integration_test

import (
	"cmp"
	"context"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/lemnis/lemnis/cmd/lemnis/up"
)

// oneProcess runs all services in this process until the returned func is called, and returns when they are ready.
func oneProcess(t *testing.T, o up.Options) (stack *up.Stack, stop func()) {
	t.Helper()
	o.Data = cmp.Or(o.Data, t.TempDir())
	o.HTTP, o.NATSListen, o.Log = "127.0.0.1:0", "127.0.0.1:0", zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))
	stack, err := up.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- stack.Run(ctx) }()
	select {
	case <-stack.Ready():
	case err := <-ended:
		cancel()
		t.Fatalf("it ended before it was ready: %v", err)
	}
	return stack, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("it did not end in order: %v", err)
		}
	}
}

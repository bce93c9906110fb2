package service

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// Who names a wrong address hears of it at once, not when the first attempt at the streams is given up; no password is in it.
func TestAWrongAddressOfTheBusIsSaid(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), startAttempt/2)
	defer cancel()
	core, logs := observer.New(zapcore.WarnLevel)
	log := zap.New(core, zap.Hooks(func(zapcore.Entry) error { cancel(); return nil }))
	env := Environment{NATS: "nats://a:cret@127.0.0.1:1", Replicas: 1}
	if _, _, err := env.Connect(ctx, log, nil); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "127.0.0.1:1 is not reached") || strings.Contains(err.Error(), "cret") {
		t.Errorf("it ended with %v", err)
	}
	all := logs.All()
	if len(all) == 0 || !strings.Contains(all[0].Message, "the bus is not reached") {
		t.Fatalf("the log: %+v", all)
	}
	if address, _ := all[0].ContextMap()["address"].(string); !strings.Contains(address, "127.0.0.1:1") || strings.Contains(address, "cret") {
		t.Errorf("the address is %q", address)
	}
}

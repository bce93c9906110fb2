package service

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// Host is what a process lends to the services that run in it.
type Host struct {
	Conn     *nats.Conn
	JS       jetstream.JetStream
	Stream   string // identity of the stream
	Replicas int
	Folds    *fold.Store
	Log      *zap.Logger
	Clock    Clock
	// Instance names a process that is known to have replaced every earlier one of the same name
	// (it holds a lock): it takes its predecessor's leases over at once. Empty when nothing is known.
	Instance string
	Timing   Timing

	faults *faults // tests only: where to crash and what to break
}

// NewHost prepares the streams and returns a host with defaults. It does not own nc and folds.
func NewHost(ctx context.Context, nc *nats.Conn, folds *fold.Store, replicas int, log *zap.Logger) (Host, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return Host{}, fmt.Errorf("jetstream: %w", err)
	}
	identity, err := natsd.EnsureStreams(ctx, js, replicas)
	if err != nil {
		return Host{}, err
	}
	return Host{Conn: nc, JS: js, Stream: identity, Replicas: replicas, Folds: folds, Log: log, Clock: WallClock{}}, nil
}

// logEvent names an event in a log line.
func logEvent(e events.Event) []zap.Field {
	return []zap.Field{
		zap.Uint64("sequence", e.Sequence), zap.String("type", e.Type.Short()), zap.String("project", e.Project),
		zap.String("key", e.Key), zap.String("chain", e.Chain), zap.String("trace", traceID(e.TraceParent)),
	}
}

// traceID cuts the trace id out of a W3C traceparent.
func traceID(parent string) string {
	if len(parent) < 55 { // version, trace id, span id, flags
		return ""
	}
	return parent[3:35]
}

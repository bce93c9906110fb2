package service

import (
	"context"
	"fmt"
	"math"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/trace"
	"github.com/lemnis/lemnis/pkg/events"
)

// Host is what a process lends to the services that run in it.
type Host struct {
	Conn     *nats.Conn
	JS       jetstream.JetStream
	Stream   string      // identity of the stream
	Forks    natsd.Forks // where the stream was taken up again from a backup
	Replicas int
	Folds    *fold.Store
	Log      *zap.Logger
	Clock    Clock
	// Instance names a process that is known to have replaced every earlier one of the same name
	// (it holds a lock): it takes its predecessor's leases over at once. Empty when nothing is known.
	Instance string
	Timing   Timing
	Trace    *trace.Tracer // nil: nobody is told

	needs   *needs   // shared by all that this was lent to
	metrics *metrics // of the service that this was lent to
	faults  *faults  // tests only: where to crash and what to break
}

// NewHost prepares the streams and returns a host with defaults. It does not own nc and folds.
func NewHost(ctx context.Context, nc *nats.Conn, folds *fold.Store, replicas int, log *zap.Logger) (Host, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return Host{}, fmt.Errorf("jetstream: %w", err)
	}
	identity, err := natsd.EnsureStreamsTold(ctx, js, replicas, func(err error) { log.Warn("streams", zap.Error(err)) })
	if err != nil {
		return Host{}, err
	}
	forks, err := natsd.ReadForks(ctx, js)
	if err != nil {
		return Host{}, err
	}
	return Host{Conn: nc, JS: js, Stream: identity, Forks: forks, Replicas: replicas, Folds: folds, Log: log, Clock: WallClock{}, needs: &needs{}}, nil
}

// Identity is that of the stream at a sequence, for ids: what stood there before a restore has another.
func (h Host) Identity(sequence uint64) string { return h.Forks.Identity(h.Stream, sequence) }

// FoldIdentity is that of the stream as a whole, for folds: a store may still hold those of an end that is lost.
func (h Host) FoldIdentity() string { return h.Forks.Identity(h.Stream, math.MaxUint64) }

// attemptsOfFork is how many attempts at an effect are counted between two restores, or for one claim that asks for it again. A
// restored consumer begins to count anew, and an attempt has to be higher than all before.
const attemptsOfFork = 1 << 20

// attempt is the number of a delivery over all restores.
func (h Host) attempt(delivered uint64) uint64 {
	return uint64(len(h.Forks))*attemptsOfFork + delivered
}

// attemptOfClaim is the number of a delivery of the claim at a sequence, which asks for work that was given up. However many
// claims ask for the same, and in whatever order workers meet them, one that came later counts for more.
func (h Host) attemptOfClaim(sequence, delivered uint64) uint64 {
	return sequence*attemptsOfFork + h.attempt(delivered)
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

package service

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/secret"
)

// What a process can not do without, as those who ask are told.
const (
	busAway    = "the bus (NATS) is away"
	foldsAway  = "the store of folds (Redis) is away"
	notSetUp   = "the streams are not ready"
	retryAfter = time.Second
)

// startAttempt bounds one attempt at the streams at start, so that the log says before long what is missing.
const startAttempt = 10 * time.Second

// Connect reaches the bus and the store of folds that the environment names, and waits for them
// to be there; front, if there is one, says what is missing meanwhile. The error is one that waiting does not mend, or ctx ended.
func (env Environment) Connect(ctx context.Context, log *zap.Logger, front *Front) (Host, func(), error) {
	opts := []nats.Option{
		nats.Name("lemnis"), nats.MaxReconnects(-1), nats.ReconnectWait(200 * time.Millisecond), nats.RetryOnFailedConnect(true),
		// A server that is cut off ends no connection: its silence has to be noticed, to go on with another of the cluster.
		nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("the bus is away; going on when it is back", zap.Error(err))
			}
		}),
	}
	if env.Key != "" {
		key, err := natsd.ServiceOptionsFromFile(env.Key)
		if err != nil {
			return Host{}, nil, fmt.Errorf("LEMNIS_NATS_KEY_FILE: %w", err)
		}
		opts = append(opts, key...)
	}
	folds, err := env.folds() //nolint:contextcheck // it lives as long as the process
	if err != nil {
		return Host{}, nil, err
	}
	nc, err := nats.Connect(env.NATS, opts...)
	if err != nil {
		_ = folds.Close()
		return Host{}, nil, fmt.Errorf("connect to %s: %w", secret.Redact(env.NATS), secret.RedactError(err))
	}
	if !nc.IsConnected() {
		log.Warn("the bus is not reached; trying again", zap.String("address", secret.Redact(env.NATS)))
	}
	closeAll := func() {
		if err := folds.Close(); err != nil {
			log.Warn("closing the store of folds", zap.Error(err))
		}
		nc.Close()
	}
	var reached atomic.Bool // the store
	if front != nil {
		front.Waits(func() (lines []string) {
			if !nc.IsConnected() {
				lines = append(lines, busAway)
			}
			if !reached.Load() {
				lines = append(lines, foldsAway)
			}
			if len(lines) == 0 {
				lines = append(lines, notSetUp)
			}
			return lines
		})
	}
	var h Host
	err = insist(ctx, log, "the store of folds is not reached; trying again", folds.Reach)
	if reached.Store(err == nil); err == nil {
		err = insist(ctx, log, "the streams are not ready; trying again", func(ctx context.Context) (err error) {
			ctx, cancel := context.WithTimeout(ctx, startAttempt)
			defer cancel()
			h, err = NewHost(ctx, nc, folds, env.Replicas, log)
			return err
		})
	}
	if err != nil && !nc.IsConnected() {
		err = fmt.Errorf("the bus at %s is not reached: %w", secret.Redact(env.NATS), err)
	}
	if err != nil {
		closeAll()
		return Host{}, nil, err
	}
	return h, closeAll, nil
}

// folds opens the store, which need not be there yet.
func (env Environment) folds() (*fold.Store, error) {
	if env.Redis == "" {
		return fold.Embedded("")
	}
	return fold.At(env.Redis)
}

// ReachFolds opens a Redis and waits for it to be there, as Connect does.
func ReachFolds(ctx context.Context, address string, log *zap.Logger, front *Front) (*fold.Store, error) {
	folds, err := fold.At(address)
	if err != nil {
		return nil, err
	}
	front.Waits(func() []string { return []string{foldsAway} })
	err = insist(ctx, log, "the store of folds is not reached; trying again", folds.Reach)
	front.Waits(nil)
	if err != nil {
		return nil, errors.Join(err, folds.Close())
	}
	return folds, nil
}

// insist repeats what fails while something is away, until ctx ends.
func insist(ctx context.Context, log *zap.Logger, waits string, try func(context.Context) error) error {
	for {
		err := try(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		log.Warn(waits, zap.Error(err))
		wait(ctx, retryAfter)
	}
}

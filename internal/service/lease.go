package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/natsd"
)

// leaseBucket is the KV bucket of the leases, one key a phase.
const leaseBucket = "LEASES"

// errLost says that another owner holds the lease, or may by now.
var errLost = errors.New("the lease is lost")

// holding is the value of a lease.
type holding struct {
	Owner    string `json:"owner"` // unique to one term; empty when it was given back
	Instance string `json:"instance,omitempty"`
	Floor    uint64 `json:"floor"` // everything at or below it is handled
}

// lease is one term of ownership of a phase. Its clock is the holder's own: whoever waits to
// take over goes by how long the revision stands still, not by times that another wrote.
type lease struct {
	js       jetstream.JetStream
	kv       jetstream.KeyValue
	key      string
	ttl      time.Duration
	owner    string
	instance string
	revision uint64
	floor    uint64
	renewed  time.Time // when the last write that succeeded was sent: others wait for a TTL from then at least
}

// acquire waits until the lease is free, or its holder was silent for a TTL, and takes it. elsewhere is told
// each time that another instance is seen to hold it; may be nil.
func acquire(ctx context.Context, js jetstream.JetStream, key, instance string, ttl time.Duration, elsewhere func()) (*lease, error) {
	kv, err := js.KeyValue(ctx, leaseBucket)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", leaseBucket, err)
	}
	l := &lease{js: js, kv: kv, key: key, ttl: ttl, owner: nuid.Next(), instance: instance}
	for {
		taken, err := l.contend(ctx, elsewhere)
		if err != nil {
			return nil, err
		}
		if taken {
			return l, nil
		}
	}
}

// contend watches the lease until it may be taken and tries to; false when another was faster.
func (l *lease) contend(ctx context.Context, elsewhere func()) (bool, error) {
	w, err := l.kv.Watch(ctx, l.key)
	if err != nil {
		return false, fmt.Errorf("watch lease %s: %w", l.key, err)
	}
	defer func() { _ = w.Stop() }()
	var seen jetstream.KeyValueEntry
	silent := time.NewTimer(l.ttl)
	defer silent.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-silent.C:
			return l.take(ctx, seen)
		case entry, ok := <-w.Updates():
			if !ok {
				return false, nil // the watcher was lost with its connection; look again
			}
			if entry == nil { // all that was there has been seen
				if seen == nil {
					return l.take(ctx, nil)
				}
				continue
			}
			seen = entry
			var h holding
			if entry.Operation() != jetstream.KeyValuePut || json.Unmarshal(entry.Value(), &h) != nil ||
				h.Owner == "" || (h.Instance != "" && h.Instance == l.instance) {
				return l.take(ctx, entry)
			}
			if elsewhere != nil {
				elsewhere()
			}
			if !silent.Stop() {
				select {
				case <-silent.C:
				default:
				}
			}
			silent.Reset(l.ttl)
		}
	}
}

// mine asks whether nobody else holds the lease now.
func (l *lease) mine(ctx context.Context) error {
	entry, err := natsd.Latest(ctx, l.js, leaseBucket, l.key)
	if err != nil {
		return fmt.Errorf("look at the lease %s: %w", l.key, err)
	}
	var h holding
	if err := json.Unmarshal(entry.Value, &h); err != nil || h.Owner != l.owner {
		return fmt.Errorf("%w to another owner", errLost)
	}
	return nil
}

// take replaces the holding that was seen; false when it is no longer the latest.
func (l *lease) take(ctx context.Context, seen jetstream.KeyValueEntry) (bool, error) {
	var h holding
	var last uint64
	if seen != nil {
		last = seen.Revision()
		if seen.Operation() == jetstream.KeyValuePut && len(seen.Value()) > 0 {
			if err := json.Unmarshal(seen.Value(), &h); err != nil {
				return false, fmt.Errorf("lease %s is unreadable: %w", l.key, err)
			}
		}
	}
	l.floor = h.Floor
	err := l.put(ctx, last, l.owner)
	if errors.Is(err, errLost) {
		return false, nil
	}
	return err == nil, err
}

// renew holds on to the lease and moves the floor: up, but for one that lay ahead of the stream.
func (l *lease) renew(ctx context.Context, floor uint64) error {
	l.floor = floor
	return l.put(ctx, l.revision, l.owner)
}

// release gives the lease back, so that another takes it at once.
func (l *lease) release(ctx context.Context, floor uint64) error {
	l.floor = floor
	return l.put(ctx, l.revision, "")
}

// put writes the holding if the last revision is the given one. A write of ours whose answer
// got lost is recognised by its owner; it says nothing of when it was made, so it is made again.
func (l *lease) put(ctx context.Context, last uint64, owner string) error {
	value, err := json.Marshal(holding{Owner: owner, Instance: l.instance, Floor: l.floor})
	if err != nil {
		return fmt.Errorf("lease %s: %w", l.key, err)
	}
	ctx, cancel := context.WithTimeout(ctx, l.ttl)
	defer cancel()
	for {
		sent := time.Now()
		var revision uint64
		if last == 0 {
			revision, err = l.kv.Create(ctx, l.key, value)
		} else {
			revision, err = l.kv.Update(ctx, l.key, value, last)
		}
		if err == nil {
			l.revision, l.renewed = revision, sent
			return nil
		}
		entry, getErr := l.kv.Get(ctx, l.key)
		if getErr != nil || entry.Revision() <= last { // unreachable, or a replica that lags behind
			return fmt.Errorf("write lease %s: %w", l.key, err)
		}
		var h holding
		if json.Unmarshal(entry.Value(), &h) != nil || h.Owner != l.owner {
			return fmt.Errorf("%w to another owner", errLost)
		}
		last, l.revision = entry.Revision(), entry.Revision()
	}
}

// keep renews the lease each third of its TTL until ctx ends (nil) or it is lost. An owner that
// can not renew it steps down by its own clock, before anyone may take over. floor is asked before
// each renewal how far everything is handled; its error ends the keeping.
func (l *lease) keep(ctx context.Context, log *zap.Logger, floor func() (uint64, error)) error {
	tick := time.NewTicker(l.ttl / 3)
	defer tick.Stop()
	for {
		expires := l.renewed.Add(l.ttl)
		expiry := time.NewTimer(time.Until(expires))
		select {
		case <-ctx.Done():
			expiry.Stop()
			return nil
		case <-expiry.C:
			return fmt.Errorf("%w: it could not be renewed for %s", errLost, l.ttl)
		case <-tick.C:
			expiry.Stop()
		}
		at, err := floor()
		if err != nil {
			return err
		}
		// Half a TTL for each try, so that one lost request does not cost the lease.
		until := time.Now().Add(l.ttl / 2)
		if expires.Before(until) {
			until = expires
		}
		renewing, cancel := context.WithDeadline(ctx, until)
		err = l.renew(renewing, at)
		cancel()
		switch {
		case errors.Is(err, errLost):
			return err
		case err != nil && ctx.Err() == nil:
			log.Warn("the lease could not be renewed; trying again", zap.String("lease", l.key), zap.Error(err))
		}
	}
}

// WhileOwner runs do whenever this process holds the lease of that name, one process at a time,
// until ctx ends. do ends with the lease; the lease is given back when do returns.
func WhileOwner(ctx context.Context, h Host, name string, do func(ctx context.Context) error) error {
	timing := h.Timing.withDefaults()
	for ctx.Err() == nil {
		l, err := acquire(ctx, h.JS, name, h.Instance, timing.Lease, nil)
		if err != nil {
			wait(ctx, timing.Lease/5)
			continue
		}
		err = l.hold(ctx, h.Log, do)
		if err != nil && ctx.Err() == nil {
			h.Log.Warn("what needs a lease ended; beginning again", zap.String("lease", name), zap.Error(err))
			wait(ctx, timing.Lease/5)
		}
	}
	return nil
}

// hold renews the lease while do runs, also while do ends because ctx did.
func (l *lease) hold(ctx context.Context, log *zap.Logger, do func(ctx context.Context) error) error {
	held, end := context.WithCancel(ctx)
	defer end()
	keeping, letGo := context.WithCancel(context.WithoutCancel(ctx))
	defer letGo()
	kept := make(chan error, 1)
	go func() {
		defer end()
		kept <- l.keep(keeping, log, func() (uint64, error) { return 0, nil })
	}()
	err := do(held)
	letGo()
	if lost := <-kept; lost != nil {
		return errors.Join(err, lost)
	}
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.ttl)
	defer cancel()
	return errors.Join(err, l.release(release, 0))
}

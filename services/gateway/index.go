package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

const (
	indexVersion = "1"
	indexBatch   = 2000                   // most entries of one transaction
	buckets      = 16                     // the embedded store looks at all its keys with each command: there are to be few
	gather       = 20 * time.Millisecond  // for entries to come together once there are few at a time
	watchWipe    = 250 * time.Millisecond // how soon a wiped store is noticed when nothing happens
)

// index finds events by chain and by id. It is a read model in the store of folds that holds sequences only, and stands
// at a position; several gateways move it together, since what they write is the same.
type index struct {
	host   service.Host
	log    *zap.Logger
	scope  fold.Scope
	name   string // of the position
	prefix string // of its keys' names, while it is not in use yet

	at    atomic.Uint64 // where this process has seen it stand
	whole atomic.Bool   // false while it is being built
	ready chan struct{} // closed when it has met the end that the stream had at the start

	asking asking
	lag    lag
}

func newIndex(h service.Host, log *zap.Logger) *index {
	scope := fold.Scope{Stream: h.FoldIdentity(), Phase: "gateway", Version: indexVersion}
	x := &index{host: h, log: log, scope: scope, name: scope.Name("index"), ready: make(chan struct{})}
	x.lag.init()
	return x
}

// entry is what the index keeps of one event.
type entry struct {
	sequence  uint64
	chain     string // short name of its chain; empty for none
	id        string // field of the event's id
	messageID string // field of a claim's message id; empty for a fact
}

// entryOf reads the envelope only.
func entryOf(m service.Message) entry {
	h := m.Headers()
	e := entry{sequence: m.Sequence}
	if chain := attribute(h, "ce-chainid"); chain != "" {
		e.chain = field('h', chain)
	}
	id := attribute(h, "ce-id")
	if m.Kind == events.Stated {
		e.id = field('f', id)
		return e
	}
	e.id = field('i', id)
	e.messageID = field('c', messageID(events.Type(attribute(h, "ce-type")), attribute(h, "ce-principal"), attribute(h, "ce-source"), id))
	return e
}

// attribute is a CloudEvents attribute as the stream's messages carry it.
func attribute(h nats.Header, name string) string {
	v := h[name]
	if len(v) == 0 {
		return ""
	}
	if strings.IndexByte(v[0], '%') >= 0 {
		if plain, err := url.PathUnescape(v[0]); err == nil {
			return plain
		}
	}
	return v[0]
}

// field is a short name for an id of any length.
func field(kind byte, id string) string {
	sum := sha256.Sum256([]byte(id))
	return string(kind) + base64.RawURLEncoding.EncodeToString(sum[:12])
}

// key is that of the bucket which a field is in.
func (x *index) key(of, field string) string {
	return x.bucket(of, int(field[1]+7*field[2])%buckets)
}

func (x *index) bucket(of string, i int) string {
	return x.scope.Name(x.prefix + of + ":" + strconv.Itoa(i))
}

// member is a sequence in a chain. The members of a sorted set with equal scores are in the order of their bytes, so
// that a chain is a range of its bucket.
func member(chain string, sequence uint64) string { return fmt.Sprintf("%s:%016x", chain, sequence) }

// begin finds where the index stands.
func (x *index) begin(ctx context.Context) (uint64, error) {
	keys := make([]string, 0, 2*buckets)
	for i := range buckets {
		keys = append(keys, x.bucket("chains", i), x.bucket("ids", i))
	}
	at, err := stands(ctx, x.host, x.name, keys...)
	if err != nil {
		return 0, err
	}
	if at, err = x.takeUp(ctx, at); err != nil {
		return 0, err
	}
	if before := x.at.Load(); at < before {
		x.whole.Store(false)
		x.log.Warn("the store of the index was wiped; building it anew", zap.Uint64("stood", before))
	}
	x.at.Store(at)
	return at, nil
}

// run moves the index behind the stream until ctx ends: with what a shared reader gives it as long as all is well, then
// with a reader of its own.
func (x *index) run(ctx context.Context, shared *intake) error {
	next := x.keep
	if !shared.gone() {
		next = func(ctx context.Context) error {
			defer shared.leave()
			return x.write(ctx, shared)
		}
	}
	for {
		err := next(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(err, fold.ErrMoved) {
			x.log.Warn("the index is interrupted; going on", zap.Error(err))
			pause(ctx, time.Second)
		}
		next = x.keep
	}
}

// keep begins where the index stands, and ends with fold.ErrMoved when it no longer stands where it was left.
func (x *index) keep(ctx context.Context) error {
	at, err := x.begin(ctx)
	if err != nil {
		return err
	}
	own := newIntake()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return follow(ctx, x.host, at, func(m service.Message) error {
			given := m.Kind != events.Result
			if given && !own.give(ctx, step{message: m}) {
				return ctx.Err()
			}
			x.lag.handed(m.Sequence, given)
			return nil
		}, func(uint64) { own.give(ctx, step{caughtUp: true}) })
	})
	group.Go(func() error { return x.write(ctx, own) })
	return group.Wait()
}

// write takes steps in, as many at a time as there are.
func (x *index) write(ctx context.Context, in *intake) error {
	steps := in.steps
	idle := time.NewTicker(watchWipe)
	defer idle.Stop()
	batch := make([]entry, 0, indexBatch)
	for {
		caughtUp := false
		take := func(s step) {
			if s.caughtUp {
				caughtUp = true
			} else {
				batch = append(batch, entryOf(s.message))
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-idle.C:
			at, err := x.host.Folds.Position(ctx, x.name)
			if err == nil && at < x.at.Load() {
				return fold.ErrMoved
			}
			continue
		case <-in.torn:
			return fold.ErrMoved // a reader of its own goes on where the index stands
		case s := <-steps:
			take(s)
		}
		for len(batch) < indexBatch && len(steps) > 0 {
			take(<-steps)
		}
		if err := x.advance(ctx, batch); err != nil {
			return err
		}
		batch = batch[:0]
		if caughtUp {
			x.setReady()
		} else if x.whole.Load() && len(steps) < indexBatch {
			pause(ctx, gather)
		}
	}
}

func (x *index) setReady() {
	x.whole.Store(true)
	select {
	case <-x.ready:
	default:
		close(x.ready)
	}
}

// advance writes a batch. Another gateway may have written some of it.
func (x *index) advance(ctx context.Context, batch []entry) error {
	for len(batch) > 0 {
		from, to := x.at.Load(), batch[len(batch)-1].sequence
		err := x.host.Folds.Advance(ctx, x.name, from, to, func(p redis.Pipeliner) error {
			x.queue(ctx, p, batch)
			return nil
		})
		if err == nil {
			x.at.Store(to)
			return nil
		}
		if !errors.Is(err, fold.ErrMoved) {
			return fmt.Errorf("write the index: %w", err)
		}
		stands, err := x.host.Folds.Position(ctx, x.name)
		if err != nil {
			return err
		}
		if stands < from {
			return fold.ErrMoved // wiped
		}
		x.at.Store(stands)
		for len(batch) > 0 && batch[0].sequence <= stands {
			batch = batch[1:]
		}
	}
	return nil
}

// queue gathers a batch into as few commands as there are keys, and says which those are.
func (x *index) queue(ctx context.Context, p redis.Pipeliner, batch []entry) (keys []string) {
	chains := map[string][]redis.Z{}
	ids := map[string][]any{}
	for _, e := range batch {
		sequence := strconv.FormatUint(e.sequence, 10)
		if e.chain != "" {
			key := x.key("chains", e.chain)
			chains[key] = append(chains[key], redis.Z{Member: member(e.chain, e.sequence)})
		}
		for _, f := range [...]string{e.id, e.messageID} {
			if f != "" {
				key := x.key("ids", f)
				ids[key] = append(ids[key], f, sequence)
			}
		}
	}
	for key, members := range chains {
		p.ZAdd(ctx, key, members...)
		keys = append(keys, key)
	}
	for key, fields := range ids {
		p.HSet(ctx, key, fields...)
		keys = append(keys, key)
	}
	return keys
}

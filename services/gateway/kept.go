package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/internal/snapshot"
)

const (
	snapshotName  = "gateway"
	snapshotEvery = 10 * time.Minute
)

// keptModels are the read models as they were, where the stream has lost its beginning: without the ids of claims the same one
// would be taken twice.
type keptModels struct {
	Index    keptIndex    `json:"index"`
	Overview keptOverview `json:"overview"`
}

type keptIndex struct {
	Version  string            `json:"version"`
	Sequence uint64            `json:"sequence"`
	Chains   []string          `json:"chains"` // members
	IDs      map[string]string `json:"ids"`    // to sequences
}

type keptOverview struct {
	Version  string                  `json:"version"`
	Sequence uint64                  `json:"sequence"`
	Projects map[string]*projectView `json:"projects"`
}

// keepSnapshots keeps the read models on the bus now and then, in one gateway at a time, while the stream says that old
// events go.
func (g *Gateway) keepSnapshots(ctx context.Context) error {
	return service.WhileOwner(ctx, g.host, "snapshots", func(ctx context.Context) error {
		for {
			pause(ctx, cmp.Or(g.host.Timing.Snapshot, snapshotEvery))
			if ctx.Err() != nil {
				return nil //nolint:nilerr // ended
			}
			if err := g.keepSnapshot(ctx); err != nil && ctx.Err() == nil {
				g.log.Warn("the read models are not kept on the bus; no events go meanwhile", zap.Error(err))
			}
		}
	})
}

func (g *Gateway) keepSnapshot(ctx context.Context) error {
	stream, err := g.host.JS.Stream(ctx, natsd.Lifecycle)
	if err != nil || natsd.RetainOf(stream.CachedInfo()) == 0 {
		return err
	}
	if g.Ready() != "" {
		return nil
	}
	if err := snapshot.ForgetBeyond(ctx, g.host.JS, snapshotName, stream.CachedInfo().State.LastSeq); err != nil {
		return err
	}
	var k keptModels
	if k.Index, err = g.index.keptIndex(ctx); err != nil {
		return err
	}
	g.overview.mu.RLock()
	k.Overview = keptOverview{overviewVersion, g.overview.sequence, g.overview.projects}
	content, err := json.Marshal(k)
	at := k.Overview.Sequence
	g.overview.mu.RUnlock()
	if err != nil {
		return err
	}
	return snapshot.Write(ctx, g.host.JS, snapshotName, min(k.Index.Sequence, at), content)
}

// keptIndex reads the index as it stands. What is written meanwhile is in it or not: it comes again.
func (x *index) keptIndex(ctx context.Context) (keptIndex, error) {
	k := keptIndex{Version: indexVersion, IDs: map[string]string{}}
	var err error
	if k.Sequence, err = x.host.Folds.Position(ctx, x.name); err != nil {
		return k, err
	}
	for i := range buckets {
		members, err := x.host.Folds.Client().ZRange(ctx, x.bucket("chains", i), 0, -1).Result()
		if err != nil {
			return k, fmt.Errorf("read the index: %w", err)
		}
		k.Chains = append(k.Chains, members...)
		ids, err := x.host.Folds.Client().HGetAll(ctx, x.bucket("ids", i)).Result()
		if err != nil {
			return k, fmt.Errorf("read the index: %w", err)
		}
		for field, sequence := range ids {
			k.IDs[field] = sequence
		}
	}
	at, err := x.host.Folds.Position(ctx, x.name)
	if err == nil && at < k.Sequence {
		err = errors.New("the store of the index was wiped while it was read")
	}
	return k, err
}

// findModels is the latest snapshot that leaves no gap before the first event of the stream; nil when that has all of them.
func findModels(ctx context.Context, js jetstream.JetStream) (k *keptModels, first uint64, err error) {
	stream, err := js.Stream(ctx, natsd.Lifecycle)
	if err != nil {
		return nil, 0, err
	}
	state := stream.CachedInfo().State
	if state.FirstSeq <= 1 {
		return nil, state.FirstSeq, nil
	}
	heads, err := snapshot.Read(ctx, js, snapshotName)
	if err != nil {
		return nil, state.FirstSeq, err
	}
	all := []error{fmt.Errorf("the stream begins at %d, and no snapshot of the read models that reaches there can be used", state.FirstSeq)}
	for _, head := range heads {
		if head.Sequence+1 < state.FirstSeq || head.Sequence > state.LastSeq {
			continue
		}
		content, err := head.Content(ctx, js)
		k := new(keptModels)
		if err == nil {
			err = json.Unmarshal(content, k)
		}
		if err == nil && (k.Index.Version != indexVersion || k.Overview.Version != overviewVersion) {
			err = fmt.Errorf("the snapshot at %d is of another version of the read models", head.Sequence)
		}
		if err == nil {
			return k, state.FirstSeq, nil
		}
		all = append(all, err)
	}
	return nil, state.FirstSeq, errors.Join(all...)
}

// takeUp brings an index that does not reach the first event of the stream to where a snapshot stands.
func (x *index) takeUp(ctx context.Context, at uint64) (uint64, error) {
	k, first, err := findModels(ctx, x.host.JS)
	if err != nil || k == nil || at+1 >= first {
		return at, err
	}
	if err := x.restore(ctx, k.Index, map[string]bool{}); err != nil {
		return 0, err
	}
	if err := x.host.Folds.Advance(ctx, x.name, at, k.Index.Sequence, func(redis.Pipeliner) error { return nil }); err != nil {
		return 0, err
	}
	x.log.Info("the index is taken up from a snapshot", zap.Uint64("sequence", k.Index.Sequence))
	return k.Index.Sequence, nil
}

// restore puts what is not on the stream any more under the keys of an index, and says where that stands.
func (x *index) restore(ctx context.Context, k keptIndex, written map[string]bool) error {
	client := x.host.Folds.Client()
	put := func(command func(redis.Pipeliner, string) error, keys map[string]bool) error {
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for key := range keys {
				written[key] = true
				if x.prefix != "" { // nobody may come to an end with it
					p.Expire(ctx, key, keepUnfinished)
				}
				if err := command(p, key); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	}
	for part := range slices.Chunk(k.Chains, indexBatch) {
		by, keys := map[string][]redis.Z{}, map[string]bool{}
		for _, m := range part {
			key := x.key("chains", m)
			by[key], keys[key] = append(by[key], redis.Z{Member: m}), true
		}
		if err := put(func(p redis.Pipeliner, key string) error { return p.ZAdd(ctx, key, by[key]...).Err() }, keys); err != nil {
			return fmt.Errorf("restore the index: %w", err)
		}
	}
	by, keys := map[string][]any{}, map[string]bool{}
	flush := func() error {
		err := put(func(p redis.Pipeliner, key string) error { return p.HSet(ctx, key, by[key]...).Err() }, keys)
		by, keys = map[string][]any{}, map[string]bool{}
		return err
	}
	n := 0
	for field, sequence := range k.IDs {
		key := x.key("ids", field)
		by[key], keys[key] = append(by[key], field, sequence), true
		if n++; n%indexBatch == 0 {
			if err := flush(); err != nil {
				return fmt.Errorf("restore the index: %w", err)
			}
		}
	}
	if err := flush(); err != nil {
		return fmt.Errorf("restore the index: %w", err)
	}
	return nil
}

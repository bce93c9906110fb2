package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// look runs read commands, and refuses to answer from an index that is being built.
func (x *index) look(ctx context.Context, ask func(redis.Pipeliner)) error {
	stood := x.at.Load()
	if !x.whole.Load() {
		return errIndexBuilding
	}
	if _, err := x.host.Folds.Client().Pipelined(ctx, func(p redis.Pipeliner) error { ask(p); return nil }); err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("%w: read the index: %w", errAway, err)
	}
	// Looked at last: a store that was wiped before the commands above has not come so far again.
	at, err := x.host.Folds.Position(ctx, x.name)
	if err != nil {
		return fmt.Errorf("%w: read the index: %w", errAway, err)
	}
	if at < stood {
		return errIndexBuilding
	}
	return nil
}

var errIndexBuilding = refuse(http.StatusServiceUnavailable, "the index of events is being built; try again in a moment")

// chain lists sequences of a chain, in order, behind one.
func (x *index) chain(ctx context.Context, chain string, after uint64, most int64) ([]uint64, error) {
	var members *redis.StringSliceCmd
	name := field('h', chain)
	err := x.look(ctx, func(p redis.Pipeliner) {
		members = p.ZRangeByLex(ctx, x.key("chains", name), &redis.ZRangeBy{Min: "(" + member(name, after), Max: "(" + name + ";", Count: most})
	})
	if err != nil {
		return nil, err
	}
	out := make([]uint64, 0, len(members.Val()))
	for _, m := range members.Val() {
		n, err := strconv.ParseUint(m[len(name)+1:], 16, 64)
		if err != nil {
			return nil, fmt.Errorf("the index holds %q for a sequence: %w", m, err)
		}
		out = append(out, n)
	}
	return out, nil
}

// claimed finds the claim with a message id; 0 for none. While the index is being built it does not say that there is
// none: the error then is errAway.
func (x *index) claimed(ctx context.Context, messageID string) (uint64, error) {
	at, err := x.ask(ctx, field('c', messageID))
	if errors.Is(err, errIndexBuilding) {
		err = fmt.Errorf("%w: %w", errAway, err)
	}
	return at, err
}

// byID finds the fact with an id, else the last claim that has it; 0 for none.
func (x *index) byID(ctx context.Context, id string) (uint64, error) {
	fields := [...]string{field('f', id), field('i', id)}
	var answers [len(fields)]*redis.StringCmd
	err := x.look(ctx, func(p redis.Pipeliner) {
		for i, f := range fields {
			answers[i] = p.HGet(ctx, x.key("ids", f), f)
		}
	})
	if err != nil {
		return 0, err
	}
	for _, a := range answers {
		if n, err := a.Uint64(); err == nil && n > 0 {
			return n, nil
		}
	}
	return 0, nil
}

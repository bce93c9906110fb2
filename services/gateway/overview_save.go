package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/service"
)

const (
	// overviewVersion is that of what is saved and of how it is folded, in overview.go, moving.go and rollout.go: raise
	// it with any change of either, or a start goes on from what the code before made.
	overviewVersion = "1"

	saveEvery   = 5 * time.Second
	saveAfter   = 1000 // fewer events are read again sooner than all is written
	saveTimeout = 2 * time.Second

	sequenceField = ":sequence" // no project has such a name
)

// overviewScope names the hash that the overview is saved as, a field a project, and its position.
func overviewScope(h service.Host) fold.Scope {
	return fold.Scope{Stream: h.FoldIdentity(), Phase: "gateway/overview", Version: overviewVersion}
}

// load takes up what was saved, and says where that stands; 0 when there is nothing that can be used.
func (o *overview) load(ctx context.Context, h service.Host) uint64 {
	sequence, projects, err := readOverview(ctx, h)
	if err != nil {
		o.log.Warn("the saved overview can not be used; reading the stream from its beginning", zap.Error(err))
		sequence, projects = 0, nil
	}
	for {
		k, first, err := findModels(ctx, h.JS)
		if err == nil {
			if k != nil && sequence+1 < first {
				sequence, projects = k.Overview.Sequence, k.Overview.Projects
			}
			break
		}
		if ctx.Err() != nil {
			return 0
		}
		o.log.Warn("the overview can not begin; trying again", zap.Error(err))
		pause(ctx, time.Second)
	}
	if sequence > 0 {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.sequence, o.projects = sequence, projects
	}
	return sequence
}

func readOverview(ctx context.Context, h service.Host) (uint64, map[string]*projectView, error) {
	key := overviewScope(h).Name("overview")
	at, err := stands(ctx, h, key, key)
	if err != nil || at == 0 {
		return 0, nil, err
	}
	fields, err := h.Folds.Client().HGetAll(ctx, key).Result()
	if err != nil {
		return 0, nil, err
	}
	sequence, projects, err := decodeOverview(fields)
	if err == nil {
		return sequence, projects, nil
	}
	return 0, nil, errors.Join(err, h.Folds.Advance(ctx, key, at, 0, func(p redis.Pipeliner) error { p.Del(ctx, key); return nil }))
}

// decodeOverview reads the hash. It has its own sequence, since another gateway may move the position at any moment.
func decodeOverview(fields map[string]string) (uint64, map[string]*projectView, error) {
	sequence, err := strconv.ParseUint(fields[sequenceField], 10, 64)
	if err != nil {
		return 0, nil, fmt.Errorf("its sequence: %w", err)
	}
	delete(fields, sequenceField)
	projects := make(map[string]*projectView, len(fields))
	for name, text := range fields {
		p := &projectView{}
		if err := json.Unmarshal([]byte(text), p); err != nil {
			return 0, nil, fmt.Errorf("project %s: %w", name, err)
		}
		projects[name] = p
	}
	return sequence, projects, nil
}

// keepSaved saves the overview now and then, when it is built, and when ctx ends. base is where it stood when it was loaded.
func (o *overview) keepSaved(ctx context.Context, h service.Host, base uint64) error {
	ticker := time.NewTicker(saveEvery)
	defer ticker.Stop()
	save := func(ctx context.Context, after uint64) {
		o.mu.RLock()
		due := o.sequence >= base+after
		o.mu.RUnlock()
		if !due {
			return
		}
		at, err := o.save(ctx, h, base)
		if err != nil {
			o.log.Warn("the overview can not be saved; trying again", zap.Error(err))
			return
		}
		base = at
	}
	built := o.ready
	for {
		select {
		case <-built:
			built = nil
			save(ctx, 1)
		case <-ticker.C:
			save(ctx, saveAfter)
		case <-ctx.Done():
			select {
			case <-o.ready:
				last, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
				save(last, 1)
				cancel()
			default: // hardly begun
			}
			return ctx.Err()
		}
	}
}

// save writes what changed since base, where this process loaded or saved it last, and returns where it stands now. What
// another gateway saved since is the same, up to its sequence. Where the store stands before base it was wiped, and all
// is written.
func (o *overview) save(ctx context.Context, h service.Host, base uint64) (uint64, error) {
	key := overviewScope(h).Name("overview")
	at, err := h.Folds.Position(ctx, key)
	if err != nil {
		return base, err
	}
	o.mu.Lock()
	sequence, changed := o.sequence, o.changed
	if at >= sequence { // another gateway is ahead; what changed is still to be known when it is gone
		o.mu.Unlock()
		return base, nil
	}
	whole := base == 0 || at < base
	if whole {
		for name := range o.projects {
			changed[name] = true
		}
	}
	o.changed = map[string]bool{}
	set := []any{sequenceField, sequence}
	var gone []string
	for name := range changed {
		p := o.projects[name]
		if p == nil {
			gone = append(gone, name)
			continue
		}
		text, failed := json.Marshal(p)
		if err = failed; err != nil {
			break
		}
		set = append(set, name, text)
	}
	o.mu.Unlock()
	if err == nil {
		err = h.Folds.Advance(ctx, key, at, sequence, func(p redis.Pipeliner) error {
			if whole {
				p.Del(ctx, key)
			} else if len(gone) > 0 {
				p.HDel(ctx, key, gone...)
			}
			p.HSet(ctx, key, set...)
			return nil
		})
	}
	if err == nil {
		return sequence, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for name := range changed {
		o.changed[name] = true
	}
	return base, fmt.Errorf("save the overview: %w", err)
}

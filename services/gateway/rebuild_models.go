package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// keepUnfinished is how long the store keeps a new index that nobody came to an end with.
const keepUnfinished = 6 * time.Hour

// modelRebuilt says what the rebuild of a read model found.
type modelRebuilt struct {
	Model     string  `json:"model"`
	Events    uint64  `json:"events"`    // read
	Compared  int     `json:"compared"`  // entries
	Differing int     `json:"differing"` // of them were not what the stream says
	Seconds   float64 `json:"seconds"`
}

// rebuild writes the index again beside the one in use, and puts it in its place in one transaction when it stands as far.
func (x *index) rebuild(ctx context.Context) (report modelRebuilt, err error) {
	began := time.Now()
	report.Model = "index"
	fresh := &index{host: x.host, log: x.log, scope: x.scope, prefix: "new-" + rand.Text() + "-"}
	written := map[string]bool{}
	at := uint64(0)
	k, _, err := findModels(ctx, x.host.JS)
	if err != nil {
		return report, err
	}
	if k != nil { // what is not on the stream any more is taken as the snapshot has it
		if err := fresh.restore(ctx, k.Index, written); err != nil {
			return report, err
		}
		at = k.Index.Sequence
	}
	catchUp := func() error {
		batch := make([]entry, 0, indexBatch)
		var failed error
		flush := func() bool {
			if failed = fresh.writeBeside(ctx, batch, written); failed == nil {
				batch = batch[:0]
			}
			return failed == nil
		}
		_, err := scan(ctx, x.host, lifecycle, nil, at, func(m service.Message) bool {
			if m.Kind != events.Result {
				batch = append(batch, entryOf(m))
				report.Events++
			}
			at = m.Sequence
			return len(batch) < indexBatch || flush()
		})
		if err == nil && failed == nil {
			flush()
		}
		return errors.Join(err, failed)
	}
	if err := catchUp(); err != nil {
		return report, err
	}
	if err := x.compare(ctx, fresh, at, &report); err != nil {
		return report, err
	}
	for {
		stands, err := x.host.Folds.Position(ctx, x.name)
		if err != nil {
			return report, err
		}
		if stands > at { // what is new goes to the one in use only
			if err := catchUp(); err != nil {
				return report, err
			}
			continue
		}
		err = x.host.Folds.Advance(ctx, x.name, stands, stands, func(p redis.Pipeliner) error {
			x.replaceBy(ctx, p, fresh, written)
			return nil
		})
		if !errors.Is(err, fold.ErrMoved) {
			report.Seconds = time.Since(began).Seconds()
			return report, err
		}
	}
}

// writeBeside writes a batch under the keys of an index that is not in use yet.
func (x *index) writeBeside(ctx context.Context, batch []entry, written map[string]bool) error {
	if len(batch) == 0 {
		return nil
	}
	_, err := x.host.Folds.Client().TxPipelined(ctx, func(p redis.Pipeliner) error {
		for _, key := range x.queue(ctx, p, batch) {
			written[key] = true
			p.Expire(ctx, key, keepUnfinished)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the new index: %w", err)
	}
	return nil
}

// replaceBy puts the keys of another index in the place of those in use.
func (x *index) replaceBy(ctx context.Context, p redis.Pipeliner, fresh *index, written map[string]bool) {
	for _, of := range []string{"chains", "ids"} {
		for i := range buckets {
			key, by := x.bucket(of, i), fresh.bucket(of, i)
			if !written[by] {
				p.Unlink(ctx, key)
				continue
			}
			p.Rename(ctx, by, key)
			p.Persist(ctx, key)
		}
	}
}

// compare counts the entries that the index in use has otherwise, a bucket at a time. What either has from behind the
// other's place is not compared.
func (x *index) compare(ctx context.Context, fresh *index, at uint64, report *modelRebuilt) error {
	stands, err := x.host.Folds.Position(ctx, x.name)
	if err != nil {
		return err
	}
	until := min(at, stands)
	client := x.host.Folds.Client()
	for i := range buckets {
		used, err := client.HGetAll(ctx, x.bucket("ids", i)).Result()
		if err != nil {
			return fmt.Errorf("read the index: %w", err)
		}
		right, err := client.HGetAll(ctx, fresh.bucket("ids", i)).Result()
		if err != nil {
			return fmt.Errorf("read the new index: %w", err)
		}
		report.compare(used, right, until)
		if used, err = members(ctx, client, x.bucket("chains", i)); err != nil {
			return err
		}
		if right, err = members(ctx, client, fresh.bucket("chains", i)); err != nil {
			return err
		}
		report.compare(used, right, until)
	}
	return nil
}

// members reads a bucket of chains as what is compared: the member, and the sequence in it.
func members(ctx context.Context, client *redis.Client, key string) (map[string]string, error) {
	all, err := client.ZRange(ctx, key, 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	out := make(map[string]string, len(all))
	for _, m := range all {
		_, text, _ := strings.Cut(m, ":")
		sequence, _ := strconv.ParseUint(text, 16, 64) // 0 when it is none, and then it differs
		out[m] = strconv.FormatUint(sequence, 10)
	}
	return out, nil
}

func (r *modelRebuilt) compare(used, right map[string]string, until uint64) {
	within := func(text string) bool {
		n, err := strconv.ParseUint(text, 10, 64)
		return err != nil || n <= until
	}
	for name, value := range right {
		if !within(value) {
			continue
		}
		r.Compared++
		if has, ok := used[name]; !ok || has != value && within(has) {
			r.Differing++
		}
	}
	for name, value := range used {
		if _, ok := right[name]; !ok && within(value) {
			r.Compared++
			r.Differing++
		}
	}
}

// rebuild folds the overview again beside the one in use, and takes its place when both stand at the same event.
func (o *overview) rebuild(ctx context.Context, h service.Host) (report modelRebuilt, err error) {
	began := time.Now()
	report.Model = "overview"
	fresh := newOverview(o.log)
	at := uint64(0)
	k, _, err := findModels(ctx, h.JS)
	if err != nil {
		return report, err
	}
	if k != nil {
		at, fresh.sequence, fresh.projects = k.Overview.Sequence, k.Overview.Sequence, k.Overview.Projects
	}
	read := func(upTo uint64) error {
		_, err := scan(ctx, h, lifecycle, nil, at, func(m service.Message) bool {
			if m.Sequence > upTo {
				return false
			}
			at = m.Sequence
			if m.Kind != events.Result {
				report.Events++
				fresh.meet(m)
			}
			return m.Sequence < upTo
		})
		return err
	}
	end, err := service.LastSequence(ctx, h)
	if err == nil {
		err = read(end)
	}
	if err != nil {
		return report, err
	}
	o.mu.Lock()
	o.besides, o.beside = true, nil // what it meets from here on, the other one meets too
	stands := o.sequence
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		o.besides, o.beside = false, nil
		o.mu.Unlock()
	}()
	if err := read(stands); err != nil {
		return report, err
	}
	for !o.takeOver(fresh, &report) {
		if pause(ctx, time.Millisecond); ctx.Err() != nil {
			return report, ctx.Err()
		}
	}
	report.Seconds = time.Since(began).Seconds()
	return report, o.saveAnew(ctx, h)
}

// takeOver makes the overview what the other one is; false while it is behind it.
func (o *overview) takeOver(fresh *overview, report *modelRebuilt) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sequence < fresh.sequence {
		return false
	}
	for _, m := range o.beside {
		if m.Sequence > fresh.sequence {
			fresh.meet(m)
		}
	}
	names := map[string]bool{}
	for name := range maps.Keys(o.projects) {
		names[name] = true
	}
	for name := range maps.Keys(fresh.projects) {
		names[name] = true
	}
	for name := range names {
		report.Compared++
		if !sameView(o.projects[name], fresh.projects[name]) {
			report.Differing++
		}
	}
	o.projects, o.sequence = fresh.projects, fresh.sequence
	return true
}

// saveAnew writes all over what the store has.
func (o *overview) saveAnew(ctx context.Context, h service.Host) error {
	key := overviewScope(h).Name("overview")
	for {
		at, err := h.Folds.Position(ctx, key)
		if err == nil {
			err = h.Folds.Advance(ctx, key, at, 0, func(p redis.Pipeliner) error { p.Del(ctx, key); return nil })
		}
		if err == nil {
			_, err = o.save(ctx, h, 0)
		}
		if !errors.Is(err, fold.ErrMoved) {
			return err
		}
	}
}

// sameView compares by what would be saved; one and the same time may be written in two zones.
func sameView(a, b *projectView) bool {
	return reflect.DeepEqual(saidBy(a), saidBy(b))
}

func saidBy(v *projectView) (said any) {
	text, err := json.Marshal(v)
	if err != nil || json.Unmarshal(text, &said) != nil {
		return err
	}
	return inUTC(said)
}

func inUTC(v any) any {
	switch v := v.(type) {
	case string:
		if at, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return at.UTC()
		}
	case []any:
		for i := range v {
			v[i] = inUTC(v[i])
		}
	case map[string]any:
		for _, name := range slices.Collect(maps.Keys(v)) {
			v[name] = inUTC(v[name])
		}
	}
	return v
}

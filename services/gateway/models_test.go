package gateway_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lemnis/lemnis/pkg/events"
)

// saved finds the key of the overview in the store.
func (w *world) saved() string {
	w.t.Helper()
	keys, err := w.folds.Client().Keys(w.t.Context(), "*:overview").Result()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, key := range keys {
		if !strings.HasPrefix(key, "position:") {
			return key
		}
	}
	w.t.Fatalf("no overview among %v", keys)
	return ""
}

func (w *world) overviewOf(project string) string {
	w.t.Helper()
	var o json.RawMessage
	w.get("/api/v1/overview?project="+project, &o)
	return string(o)
}

// TestOverviewIsSaved: what was saved is taken up, whatever kind of thing moves, and events since then are folded onto it.
func TestOverviewIsSaved(t *testing.T) {
	w := newWorld(t)
	rollout := func(id string) events.Rollout {
		return events.Rollout{ID: id, Environment: "prod", Service: "api", Artifact: events.ArtifactDetail{Title: id}}
	}
	for _, e := range []events.Event{
		fact("shop", "shop", events.Plan, events.ProjectConfigured{Revision: 1, Project: events.DefaultProject("shop")}),
		fact("shop", "T1", events.Plan, events.TicketCreated{Ticket: events.Ticket{Summary: "Faster search"}}),
		fact("shop", "shop", events.Plan, events.BacklogRanked{Places: []events.Place{{Item: "T1", Rank: 1}}}),
		fact("shop", "prod/api", events.Deploy, events.DeploymentRequested{Rollout: rollout("one")}),
		fact("shop", "prod/api", events.Deploy, events.DeploymentRequested{Rollout: rollout("two")}),
		fact("bank", "T2", events.Plan, events.TicketCreated{Ticket: events.Ticket{Summary: "Books"}}),
	} {
		at := w.state(e)
		w.until("it is folded", func() bool { return strings.Contains(w.overviewOf(e.Project), fmt.Sprintf(`"sequence":%d,`, at)) })
	}
	before := w.overviewOf("shop") + w.overviewOf("bank")
	w.stop()

	// A mark that no event made shows that the next run begins with what was saved.
	ctx, key := t.Context(), w.saved()
	text, err := w.folds.Client().HGet(ctx, key, "bank").Result()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.folds.Client().HSet(ctx, key, "bank", strings.Replace(text, "Books", "Bookkeeping", 1)).Err(); err != nil {
		t.Fatal(err)
	}
	w.start()
	if after := w.overviewOf("shop") + w.overviewOf("bank"); after != strings.Replace(before, "Books", "Bookkeeping", 1) {
		t.Errorf("before %s\nafter  %s", before, after)
	}
	// The place goes to the rollout that waited, so what waits was saved too.
	at := w.state(fact("shop", "prod/api", events.Deploy, events.DeploymentFailed{Rollout: rollout("one")}))
	w.until("it is folded", func() bool { return strings.Contains(w.overviewOf("shop"), fmt.Sprintf(`"sequence":%d,`, at)) })
	if o := w.overviewOf("shop"); !strings.Contains(o, "two to prod") || strings.Contains(o, "one to prod") {
		t.Error(o)
	}

	// Only what changed is written: the mark in the other project stays.
	w.stop()
	if text, _ := w.folds.Client().HGet(ctx, key, "bank").Result(); !strings.Contains(text, "Bookkeeping") {
		t.Errorf("bank was written again: %s", text)
	}
	// What can not be read is passed over, and all is written anew.
	if err := w.folds.Client().HSet(ctx, key, "bank", "no JSON").Err(); err != nil {
		t.Fatal(err)
	}
	w.start()
	if o := w.overviewOf("bank"); !strings.Contains(o, "Books") {
		t.Error(o)
	}
	w.until("it is written anew", func() bool {
		text, _ := w.folds.Client().HGet(ctx, key, "bank").Result()
		return strings.Contains(text, "Books")
	})
}

// TestModelsBehindTheEnd: a store that knows more than the stream, which lost its end, is built anew.
func TestModelsBehindTheEnd(t *testing.T) {
	w := newWorld(t)
	at := w.state(fact("shop", "T1", events.Plan, events.TicketCreated{Ticket: events.Ticket{Summary: "Faster search"}}))
	w.until("both have met it", func() bool {
		var p page
		w.get("/events?chain=chain-T1", &p)
		return len(p.Events) == 1 && strings.Contains(w.overviewOf("shop"), fmt.Sprintf(`"sequence":%d,`, at))
	})
	w.stop()
	ctx := t.Context()
	names, err := w.folds.Client().Keys(ctx, "position:*").Result()
	if err != nil || len(names) != 2 {
		t.Fatalf("positions %v: %v", names, err)
	}
	for _, name := range names {
		if err := w.folds.Client().Set(ctx, name, 1000, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	// In the way of both, so that it shows that they are emptied.
	if err := w.folds.Client().HSet(ctx, w.saved(), "lost", `{"last":"2026-01-01T00:00:00Z","phases":{}}`).Err(); err != nil {
		t.Fatal(err)
	}
	w.start()
	e := fact("shop", "T2", events.Plan, events.TicketCreated{Ticket: events.Ticket{Summary: "Dark colours"}})
	e.Chain = "chain-T1"
	w.state(e)
	w.until("both are found", func() bool { var p page; w.get("/events?chain=chain-T1", &p); return len(p.Events) == 2 })
	w.until("both move", func() bool {
		o := w.overviewOf("shop")
		return strings.Contains(o, "Faster search") && strings.Contains(o, "Dark colours")
	})
	if o := w.overviewOf("shop"); strings.Contains(o, "lost") {
		t.Error(o)
	}
}

// TestOverviewNeedsNoStore: an index that can not be written does not hold the overview up.
func TestOverviewNeedsNoStore(t *testing.T) {
	w := newWorld(t)
	keys, err := w.folds.Client().Keys(t.Context(), "position:*:index").Result()
	if err != nil {
		t.Fatal(err)
	}
	w.state(fact("shop", "T0", events.Plan, events.TicketCreated{Ticket: events.Ticket{Summary: "x"}}))
	w.until("it is indexed", func() bool {
		keys, err = w.folds.Client().Keys(t.Context(), "position:*:index").Result()
		return err == nil && len(keys) == 1
	})
	// A position that is no number: each look at it fails.
	if _, err := w.folds.Client().TxPipelined(t.Context(), func(p redis.Pipeliner) error { p.Set(t.Context(), keys[0], "broken", 0); return nil }); err != nil {
		t.Fatal(err)
	}
	at := w.state(fact("shop", "T1", events.Plan, events.TicketCreated{Ticket: events.Ticket{Summary: "Faster search"}}))
	w.until("the overview goes on", func() bool { return strings.Contains(w.overviewOf("shop"), fmt.Sprintf(`"sequence":%d,`, at)) })
	if err := w.folds.Client().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	w.until("the index is built anew", func() bool {
		_, body := w.send("GET", "/events?chain=chain-T1", "")
		return strings.Contains(body, "Faster search")
	})
}

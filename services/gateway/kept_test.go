package gateway_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway"
)

// Where the stream has lost its beginning and the store everything, claims are known again, and the read models are as they
// were.
func TestModelsOfAPurgedStream(t *testing.T) {
	often := func(o *gateway.Options) { o.Host.Timing.Snapshot = 20 * time.Millisecond }
	w := newWorld(t, often)
	w.host.Timing.Snapshot = 20 * time.Millisecond
	w.planner()
	const claims = 30
	var all []events.Event
	firstTime := map[string]uint64{}
	for i := range claims {
		e := ticket(fmt.Sprint("t", i), "x")
		firstTime[e.ID], all = w.claim(e).Sequence, append(all, e)
	}
	w.until("the facts are there", func() bool { return w.end() >= 2*claims })
	if err := natsd.SetRetain(t.Context(), w.host.JS, time.Hour); err != nil {
		t.Fatal(err)
	}
	var p service.Purge
	w.until("snapshots of all that was claimed", func() bool {
		var err error
		w.claim(ticket(fmt.Sprint("later", w.end()), "x")) // a snapshot follows only what is new
		p, err = service.PlanPurge(t.Context(), w.host, 0, []string{"gateway", "plan"})
		return err == nil && p.UpTo >= 2*claims
	})
	before := w.overviewOf("shop")
	if err := p.Do(t.Context(), w.host); err != nil {
		t.Fatal(err)
	}
	known := func(when string) {
		t.Helper()
		w.until("the index is whole", func() bool {
			resp, _ := w.send("POST", "/events", structured(t, all[0]), "Content-Type", "application/cloudevents+json")
			return resp.StatusCode == 202
		})
		for _, e := range all {
			if got := w.claim(e); !got.Duplicate || got.Sequence != firstTime[e.ID] {
				t.Fatalf("%s: %s is %+v, want the one at %d", when, e.ID, got, firstTime[e.ID])
			}
		}
	}
	known("after the purge")
	if err := w.folds.Client().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	known("after the store was wiped")

	end := w.end()
	w.stop()
	if err := w.folds.Client().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	w.start(often)
	known("after a start with nothing")
	if w.end() != end {
		t.Errorf("the stream grew from %d to %d", end, w.end())
	}
	if after := w.overviewOf("shop"); len(after) < len(before) {
		t.Errorf("the overview is %s, was %s", after, before)
	}
	if got := w.rebuild("gateway"); len(got.Models) != 2 || got.Models[0].Differing != 0 || got.Models[1].Differing != 0 || got.Models[0].Compared < 4*claims {
		t.Errorf("a rebuild finds %+v", got)
	}
}

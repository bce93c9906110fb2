package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/lemnis/lemnis/pkg/events"
)

// measured reads all metrics, by name and labels beside the phase.
func measured(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	all, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range all {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				if l.GetName() != "phase" {
					name += "/" + l.GetValue()
				}
			}
			switch f.GetType() {
			case dto.MetricType_HISTOGRAM:
				out[name] = float64(m.GetHistogram().GetSampleCount())
			case dto.MetricType_COUNTER:
				out[name] = m.GetCounter().GetValue()
			default:
				out[name] = m.GetGauge().GetValue()
			}
		}
	}
	return out
}

// expectMeasured polls until the metrics have these values.
func expectMeasured(t *testing.T, from prometheus.Gatherer, want map[string]float64) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		got, missing := measured(t, from), ""
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if v, ok := got[name]; !ok || v != want[name] {
				missing += fmt.Sprintf("%s is %v (known: %t), want %v\n", name, v, ok, want[name])
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(missing)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func TestWhatAServiceMeasures(t *testing.T) {
	b := newBus(t)
	def := proofDefinition()
	hold, again := make(chan struct{}), errors.New("not yet")
	def.Effects = []Effect{
		{Name: "note", On: []events.Type{events.TypeOf(events.TicketCreated{})}, Do: func(ctx context.Context, job *Job) error {
			switch {
			case job.Attempt == 1:
				return events.Retry(time.Millisecond, again)
			case job.Event.Key == "b":
				return events.Reject(errors.New("never"))
			}
			return nil
		}},
		{Name: "wait", On: []events.Type{events.TypeOf(events.TicketClosed{})}, Do: func(ctx context.Context, _ *Job) error {
			select {
			case <-hold:
			case <-ctx.Done():
			}
			return ctx.Err()
		}},
	}
	b.host.Timing.AckWait = 200 * time.Millisecond // the consumers are looked up as often
	s, _ := running(t, b.host, def)
	registry := NewRegistry(b.host, s)
	mustClaim(t, b, "a", ticket("a"), "a")
	mustClaim(t, b, "b", ticket("b"), "b")
	mustClaim(t, b, "broken", update(undecidable), "a")
	for _, id := range []string{"a", "b", "broken"} {
		if id == "broken" {
			expectRefusal(t, b, id, "it can not be handled")
		} else {
			expectFact(t, b, id)
		}
	}
	mustClaim(t, b, "closeA", events.TicketClosed{}, "a")
	mustClaim(t, b, "closeB", events.TicketClosed{}, "b")
	expectFact(t, b, "closeB")
	expectMeasured(t, registry, map[string]float64{
		"lemnis_owner": 1, "lemnis_ready": 1, "lemnis_troubles": 0, "lemnis_bus_connected": 1, "lemnis_lag_events": 0,
		"lemnis_effect_attempts_total/note/done": 1, "lemnis_effect_attempts_total/note/failed": 2,
		"lemnis_effect_attempts_total/note/rejected": 1, "lemnis_effect_redeliveries_total/note": 2, "lemnis_effect_seconds/note": 4,
		"lemnis_effect_pending/note": 0, "lemnis_effect_pending/wait": 1, "lemnis_effect_unacknowledged/wait": 1,
		"lemnis_dead_letters_total": 2, "lemnis_dead_letters": 2, "lemnis_publish_errors_total": 0, "lemnis_fence_conflicts_total": 0,
	})
	close(hold)
	expectMeasured(t, registry, map[string]float64{"lemnis_effect_attempts_total/wait/done": 2, "lemnis_effect_pending/wait": 0})
	got := measured(t, registry)
	if got["lemnis_facts_total"] < 6 || got["lemnis_decide_seconds"] < got["lemnis_facts_total"]-1 || got["lemnis_publish_seconds"] < got["lemnis_facts_total"] {
		t.Errorf("%v facts of %v decisions and %v publications", got["lemnis_facts_total"], got["lemnis_decide_seconds"], got["lemnis_publish_seconds"])
	}
	end, err := lastSequence(t.Context(), b.js)
	if err != nil {
		t.Fatal(err)
	}
	if read, floor := got["lemnis_read_sequence"], got["lemnis_floor_sequence"]; read < 5 || read > float64(end) || floor > read {
		t.Errorf("the stream ends at %d, %v are read, %v handled", end, read, floor)
	}
	w := httptest.NewRecorder()
	health(s.host, []*Service{s}, registry).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	for _, line := range []string{`lemnis_owner{phase="plan"} 1`, `lemnis_effect_attempts_total{effect="note",outcome="done",phase="plan"} 1`, "go_goroutines ", "process_resident_memory_bytes "} {
		if !strings.Contains(w.Body.String(), "\n"+line) {
			t.Errorf("/metrics has no %s", line)
		}
	}
}

// Whoever is behind says so, and only the owner does.
func TestAnOwnerThatIsBehindSaysSo(t *testing.T) {
	b := newBus(t)
	def, hold := proofDefinition(), make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	defer release()
	evolve := def.Aggregates[0].evolve
	def.Aggregates[0].evolve = func(state any, fact events.Event) any {
		<-hold
		return evolve(state, fact)
	}
	s, stop := running(t, b.host, def)
	for i := range 5 {
		mustClaim(t, b, fmt.Sprint(i), ticket("a"), "a")
	}
	expectMeasured(t, NewRegistry(b.host, s), map[string]float64{"lemnis_lag_events": 5})
	release()
	expectFact(t, b, "0")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got, ok := measured(t, NewRegistry(b.host, s))["lemnis_lag_events"]; ok {
		t.Errorf("a process that owns nothing is %v behind", got)
	}
}

// A store of folds that is away lets them grow old, and nothing else.
func TestFoldsThatAreNotSavedGrowOld(t *testing.T) {
	b := newBus(t)
	s, _ := running(t, b.host, proofDefinition())
	registry := NewRegistry(b.host, s)
	mustClaim(t, b, "a", ticket("a"), "a")
	expectFact(t, b, "a")
	for deadline := time.Now().Add(patience); ; {
		if got := measured(t, registry); got["lemnis_fold_saved_sequence"] >= 3 && got["lemnis_fold_age_seconds"] < 1 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("saved up to %v, %v s ago", got["lemnis_fold_saved_sequence"], got["lemnis_fold_age_seconds"])
		}
		<-time.After(10 * time.Millisecond)
	}
	if err := b.folds.Client().Close(); err != nil {
		t.Fatal(err)
	}
	mustClaim(t, b, "b", ticket("b"), "b")
	expectFact(t, b, "b")
	for deadline := time.Now().Add(patience); measured(t, registry)["lemnis_fold_age_seconds"] < 1.5; {
		if time.Now().After(deadline) {
			t.Fatal("they seem to be saved")
		}
		<-time.After(10 * time.Millisecond)
	}
}

package service

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/pkg/events"
)

// dispatched is all that the runtime does for one cause between the bus and the bus: decode, route,
// decide, fold, encode.
type dispatched struct {
	encoder  events.Encoder
	w        *worker
	claim    *nats.Msg
	sequence uint64
}

func newDispatched(tb testing.TB) *dispatched {
	tb.Helper()
	s := New(Host{Stream: "stream", Log: testLog()}, Definition{Phase: events.Plan, Aggregates: []Aggregate{Of(echoRules())}})
	t := s.newTerm(&lease{})
	t.configs.known = map[string]*events.Project{}
	return &dispatched{w: t.workers[0], claim: benchClaim(1)}
}

func (d *dispatched) once() (*nats.Msg, error) {
	d.sequence++
	e, err := decodeStored(d.claim.Header, d.claim.Data, events.Claim, d.sequence, time.Unix(1, 0))
	if err != nil {
		return nil, err
	}
	tasks, err := d.w.term.route(d.w.term.configs.get(e.Project), &e)
	if err != nil {
		return nil, err
	}
	k := tasks[0]
	p := d.w.partition(fold.PartitionID{Project: e.Project, Partition: events.Partition(k.key)})
	given, _, err := d.w.answer(p, p.peek(field{k.kind.kind, k.key}), k)
	if err != nil {
		return nil, err
	}
	msg, err := d.w.message(&d.encoder, p, given.fact)
	if err != nil {
		return nil, err
	}
	given.fact.Sequence = d.sequence
	p.put(given.fact, given.state)
	return msg, nil
}

func BenchmarkDispatch(b *testing.B) {
	d := newDispatched(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.once(); err != nil {
			b.Fatal(err)
		}
	}
}

// A decision may not come to cost more than it does: the bound is a few above the 32 that it takes.
func TestDispatchAllocations(t *testing.T) {
	d := newDispatched(t)
	const bound = 36
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := d.once(); err != nil {
			t.Fatal(err)
		}
	}); n > bound {
		t.Errorf("%v allocations for one decision, want %d at most", n, bound)
	}
}

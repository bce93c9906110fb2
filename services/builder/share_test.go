package builder_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/executor"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
	"github.com/lemnis/lemnis/internal/runlog"
	"github.com/lemnis/lemnis/internal/stepcache"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/builder"
)

// Two builders share a bus and no folder: what one has run of a tree the other does not run again, nor what a change upon it leaves as it was.
func TestBuildersShareWhatStepsLeft(t *testing.T) {
	t.Parallel()
	_, _, js := natsdtest.Start(t)
	entries, err := js.OrderedConsumer(t.Context(), natsd.Cache, jetstream.OrderedConsumerConfig{FilterSubjects: []string{"cache.*.*.entry.>"}})
	if err != nil {
		t.Fatal(err)
	}
	o := emptyOrigin(t)
	o.commit(t, "main", map[string]string{"in": "1", ".lemnis.yaml": "steps:\n" +
		"  - {name: make, run: 'date +%s%N >made', inputs: [in], outputs: [made]}\n" +
		"  - {name: look, run: 'cat made', inputs: [other]}\n"})
	first := o.commit(t, "find", map[string]string{"other": "1"})
	var shifts []*shift
	for range 2 {
		shifts = append(shifts, newShift(t, builder.Options{Logs: runlog.New(js), Cache: stepcache.New(js), Isolation: executor.None}, project(o)))
	}
	run := func(s *shift, m events.MergeDetail) *events.Evidence {
		t.Helper()
		got := s.pipeline(t, m)
		if got.Outcome != events.Success {
			t.Fatal(got.Errors)
		}
		return got.Lemnis.Merge.Evidence
	}
	if e := run(shifts[0], find(first)); len(e.Reused) > 0 {
		t.Errorf("the first: %v", e.Reused)
	}
	for range 2 { // they are put once the result is told
		if _, err := entries.Next(jetstream.FetchMaxWait(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if e := run(shifts[1], find(first)); strings.Join(e.Reused, " ") != "make look" {
		t.Errorf("the second builder: %v", e.Reused)
	}
	// Merged by the first, it is what the second makes the next change upon.
	merge := find(first)
	tested := shifts[0].pipeline(t, merge).Lemnis.Merge
	if _, err := shifts[0].work(t, "merge", "7", 1, events.QueueTested{Merge: tested}); err != nil {
		t.Fatal(err)
	}
	third := newShift(t, builder.Options{Logs: runlog.New(js), Cache: stepcache.New(js), Isolation: executor.None}, project(o))
	next := find(o.commit(t, "next", map[string]string{"other": "2"}))
	next.Change, next.Branch = "8", "next"
	if e := run(third, next); strings.Join(e.Reused, " ") != "make" {
		t.Errorf("upon what was merged: %v", e.Reused)
	}
}

// slow is a bus that takes what steps left only once somebody has been told something.
type slow struct {
	jetstream.JetStream
	told, put chan struct{}
}

func (b *slow) Publish(ctx context.Context, subject string, content []byte, o ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	select {
	case <-b.told:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ack, err := b.JetStream.Publish(ctx, subject, content, o...)
	if err == nil && strings.Contains(subject, ".entry.") {
		b.put <- struct{}{}
	}
	return ack, err
}

// The run's slot is free, and its fact acked, before what its steps left is put.
func TestNobodyWaitsForWhatIsShared(t *testing.T) {
	t.Parallel()
	_, _, js := natsdtest.Start(t)
	bus := &slow{JetStream: js, told: make(chan struct{}), put: make(chan struct{}, 1)}
	o := emptyOrigin(t)
	o.commit(t, "main", map[string]string{".lemnis.yaml": "steps: [{name: make, run: date >made, outputs: [made]}]\n"})
	s := newShift(t, builder.Options{Cache: stepcache.New(bus), Isolation: executor.None}, project(o))
	got := s.pipeline(t, find(o.commit(t, "find", map[string]string{"other": "1"})))
	close(bus.told)
	if got.Outcome != events.Success {
		t.Fatal(got.Errors)
	}
	select {
	case <-bus.put:
	case <-time.After(20 * time.Second):
		t.Error("what the step left is not put once the run is over")
	}
}

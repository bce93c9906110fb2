package service

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/pkg/events"
)

// flight is a fact on its way to the stream.
type flight struct {
	task      task
	partition *partition
	given     answer
	began     time.Time
	reply     *nats.Msg // once it is there
	err       error     // why none will come
}

// send decides on a task and puts its fact on the way; nil when there is nothing to say.
func (w *worker) send(p *partition, t task, decide func(*partition, aggregate, task) (answer, bool, error)) (*flight, error) {
	given, ok, err := decide(p, p.peek(field{t.kind.kind, t.key}), t)
	if err != nil || !ok {
		return nil, err
	}
	if err := w.term.faults.at(stepDecided, t.cause.event); err != nil {
		return nil, err
	}
	enc := encoders.Get().(*events.Encoder)
	defer encoders.Put(enc)
	msg, err := w.message(enc, p, given.fact)
	if err != nil {
		return nil, poisonous(err)
	}
	sent := &flight{task: t, partition: p, given: given, began: time.Now()}
	sent.err = w.bus.send(msg)
	return sent, nil
}

// ack waits for the stream's answer, where it is not there yet.
func (w *worker) ack(ctx context.Context, sent *flight) (jetstream.PubAck, error) {
	if sent.reply == nil && sent.err == nil {
		sent.reply, sent.err = w.bus.await(ctx)
	}
	if sent.err != nil {
		return jetstream.PubAck{}, sent.err
	}
	return readAck(sent.reply)
}

// begin does in the reader's goroutine what comes before the ack of a task's fact, and leaves the ack to the worker: one
// hand-over less for an event that nothing waits behind. It does so only where the worker has nothing open, since all
// tasks of a partition have to be handled in their order. False leaves the whole task to the worker.
func (w *worker) begin(t *task) (bool, error) {
	if w.open.Load() > 0 || !w.mu.TryLock() {
		return false, nil
	}
	defer w.mu.Unlock()
	if w.bus == nil {
		return false, nil
	}
	if err := w.term.faults.at(stepReceived, t.cause.event); err != nil {
		return true, err
	}
	p := w.partitionOf(*t)
	if w.stands(p, *t) {
		t.cause.open.Add(-1)
		return true, nil
	}
	sent, err := w.send(p, *t, w.answer)
	if poison, is := errors.AsType[*poisonError](err); is {
		t.poison = poison // what that means is the worker's to do
		return false, nil
	}
	if err != nil {
		return true, err
	}
	if sent == nil {
		t.cause.open.Add(-1)
		return true, nil
	}
	w.open.Add(1)
	w.flight = sent
	if sent.err != nil {
		w.bus.timer.Reset(0)
	}
	return true, nil
}

// land brings what the reader has begun to its end, if there is such a thing. Reply is one that has come, of which it is
// not known to what; nil to wait for the right one.
func (w *worker) land(ctx context.Context, reply *nats.Msg) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.flight
	if sent == nil || reply != nil && !w.bus.answers(reply) {
		return nil
	}
	sent.reply, w.flight = reply, nil
	return w.handle(ctx, sent.task, sent)
}

// lose ends the wait for the ack of what the reader has begun, when it is due.
func (w *worker) lose(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.flight
	if sent == nil || sent.err == nil && time.Since(sent.began) < publishTimeout {
		return nil // the timer went off for an earlier one
	}
	if sent.err == nil {
		sent.err = nats.ErrTimeout
	}
	w.flight = nil
	return w.handle(ctx, sent.task, sent)
}

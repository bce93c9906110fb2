package subscription

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
)

// judging is about how long a worker judges facts in one turn: filters may take a millisecond each.
const judging = 5 * time.Millisecond

// takeBehind takes in what the reader of the stream hands over, as long as there is room.
func (w *worker) takeBehind() {
	for w.behind != nil && !w.full() {
		select {
		case i, more := <-w.behind:
			if !more {
				w.behind, w.notBehind = nil, nil
				continue
			}
			w.at = max(w.at, i.read)
			w.take(i)
		default:
			return
		}
	}
}

// takeNew takes in some of what the feed has, as long as there is room; true when there may be more. Where the feed does not reach back,
// the stream is read instead.
func (w *worker) takeNew(room []*item) (more bool) {
	if w.behind != nil || w.full() {
		return false
	}
	items, upTo, ok := w.feed.after(w.at, room)
	if !ok {
		w.readBehind(nil)
		return false
	}
	defer clear(items) // or it would hold on to them
	began := time.Now()
	for n, i := range items {
		if w.full() {
			return false
		}
		if n > 0 && time.Since(began) > judging { // others have to judge as well
			w.take(input{read: w.at})
			return true
		}
		w.at = i.sequence
		if in, is := w.judge(i); is {
			w.take(in)
		}
	}
	w.at = upTo
	if len(items) > 0 {
		w.take(input{read: upTo}) // what was passed over
	}
	return len(items) == cap(room)
}

// judge is what to take of a fact: itself, or that it could not be judged; false for nothing.
func (w *worker) judge(i *item) (input, bool) {
	wanted, err := w.wants(i)
	switch {
	case wanted:
		return input{item: i, read: i.sequence}, true
	case err != nil:
		return input{read: i.sequence, unjudged: err}, true
	}
	return input{}, false
}

// readBehind has a goroutine hand over what was open before, then what stands on the stream up to where the feed begins.
func (w *worker) readBehind(left []unsettled) {
	in := make(chan input, 1) // a turn takes what is there, and waits for nothing
	w.behind = in
	ctx, stop := context.WithCancel(w.ctx)
	w.notBehind = stop
	at := w.at
	w.readers.Go(func() {
		defer w.turns.ask(w)
		defer close(in)
		defer stop()
		w.read(ctx, left, at, in)
	})
}

func (w *worker) read(ctx context.Context, left []unsettled, at uint64, in chan<- input) {
	give := func(i input) bool {
		select {
		case in <- i:
			w.turns.ask(w)
			return true
		case <-ctx.Done():
			return false
		}
	}
	if !w.readOpen(ctx, left, give) {
		return
	}
	for ctx.Err() == nil {
		first, _ := w.feed.ends()
		if at+1 >= first {
			return
		}
		items, upTo, err := behind(ctx, w.host, w.record.Spec.Config.Project, at, first)
		if err != nil {
			if ctx.Err() == nil {
				w.log().Warn("a subscription can not read what it is behind; trying again", zap.Error(err))
			}
			pause(ctx, 500*time.Millisecond)
			continue
		}
		for _, i := range items {
			if taken, is := w.judge(i); is && !give(taken) {
				return
			}
		}
		if at = upTo; !give(input{read: at}) { // what was passed over
			return
		}
	}
}

// readOpen reads again what was on its way when an earlier worker ended.
func (w *worker) readOpen(ctx context.Context, left []unsettled, give func(input) bool) bool {
	if len(left) == 0 {
		return true
	}
	var stream jetstream.Stream
	for _, u := range left {
		for {
			m, err := w.message(ctx, &stream, u.Sequence)
			if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
				if ctx.Err() != nil {
					return false
				}
				w.log().Warn("an event can not be read again; trying", zap.Uint64("sequence", u.Sequence), zap.Error(err))
				pause(ctx, time.Second)
				continue
			}
			i := input{attempt: &attempt{tries: u.Tries, since: u.Since}, read: u.Sequence}
			if err == nil {
				i.item = newItem(m.Sequence, m.Time, m.Subject, m.Header, m.Data)
				if wanted, filterErr := w.wants(i.item); !wanted { // it was changed in the meantime
					i.item, i.unjudged = nil, filterErr
				}
			}
			if !give(i) {
				return false
			}
			break
		}
	}
	return true
}

// message reads from the stream, which it looks up when it has to.
func (w *worker) message(ctx context.Context, stream *jetstream.Stream, sequence uint64) (*jetstream.RawStreamMsg, error) {
	if *stream == nil {
		found, err := w.host.JS.Stream(ctx, natsd.Lifecycle)
		if err != nil {
			return nil, err
		}
		*stream = found
	}
	return service.MessageAt(ctx, w.host, *stream, sequence)
}

// wants judges a fact by all that the subscription says.
func (w *worker) wants(i *item) (bool, error) {
	s := &w.record.Spec
	if i.project != s.Config.Project || s.Source != "" && s.Source != i.attributes["source"] ||
		len(s.Types) > 0 && !slices.Contains(s.Types, i.attributes["type"]) {
		return false, nil
	}
	return w.wanted(i)
}

package runlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
)

const (
	pullChunks = 16 // that a reader has the bus send at a time
	forget     = 10 * time.Second
)

// Read passes on a log that was found, to where it stood then or, to follow it, until it is whole. The text is valid until each
// returns; its error ends the reading and is returned.
func (s *Store) Read(ctx context.Context, last Last, follow bool, each func(step string, text []byte) error) error {
	consumer, err := s.js.OrderedConsumer(ctx, natsd.Logs, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{last.Run.subject()}, InactiveThreshold: forget,
	})
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.js.DeleteConsumer(clean, natsd.Logs, consumer.CachedInfo().Name) // or the server forgets it by itself
	}()
	if consumer.CachedInfo().NumPending == 0 && !follow {
		return ErrNotFound // it went in the meantime
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(pullChunks))
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	defer messages.Stop()
	r := &reader{attempt: last.Attempt, each: each}
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("logs: %w", err)
		}
		at, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("logs: %w", err)
		}
		h, err := parse(m.Headers().Get(headerName))
		if err != nil {
			return err
		}
		whole, err := r.meet(h, m.Data())
		if err != nil || whole {
			return err
		}
		if !follow && (at.Sequence.Stream >= last.sequence || at.NumPending == 0) {
			return r.rest()
		}
	}
}

// reader puts the chunks of the latest attempt in order.
type reader struct {
	attempt uint64
	offset  int64
	early   []early // chunks that came before one that stands before them: it was sent again
	raw     []byte
	each    func(string, []byte) error
}

type early struct {
	header
	packed []byte
}

// meet takes a chunk as it stands on the stream.
func (r *reader) meet(h header, packed []byte) (whole bool, err error) {
	switch {
	case h.Attempt < r.attempt:
		return false, nil // one that was given up
	case h.Attempt > r.attempt:
		if err := r.rest(); err != nil {
			return false, err
		}
		r.attempt, r.offset = h.Attempt, 0
		if err := r.each("", notice("the worker was lost; another one begins anew")); err != nil {
			return false, err
		}
	}
	if h.Offset > r.offset {
		r.early = append(r.early, early{h, packed})
		if len(r.early) < chunks && h.End == nil {
			return false, nil
		}
		return h.End != nil, r.rest() // what was waited for is gone
	}
	if whole, err = r.show(h, packed); whole || err != nil {
		return whole, err
	}
	for len(r.early) > 0 {
		next := slices.IndexFunc(r.early, func(e early) bool { return e.Offset <= r.offset })
		if next < 0 {
			break
		}
		e := r.early[next]
		r.early = slices.Delete(r.early, next, next+1)
		if whole, err = r.show(e.header, e.packed); whole || err != nil {
			return whole, err
		}
	}
	return false, nil
}

// rest shows what waited for chunks that did not come.
func (r *reader) rest() error {
	slices.SortFunc(r.early, func(a, b early) int { return cmp.Compare(a.Offset, b.Offset) })
	for _, e := range r.early {
		if e.Offset > r.offset {
			if err := r.gap(e.Offset); err != nil {
				return err
			}
		}
		if _, err := r.show(e.header, e.packed); err != nil {
			return err
		}
	}
	r.early = nil
	return nil
}

func (r *reader) gap(to int64) error {
	text := fmt.Sprintf("%d bytes of the log are missing here", to-r.offset)
	if r.offset == 0 {
		text = fmt.Sprintf("the first %d bytes of the log are not kept any more", to)
	}
	r.offset = to
	return r.each("", notice(text))
}

// show passes on a chunk that is next, or was met already.
func (r *reader) show(h header, packed []byte) (whole bool, err error) {
	if h.Offset < r.offset {
		return false, nil
	}
	text := packed
	if !h.Raw {
		if n, err := s2.DecodedLen(packed); err != nil || n != h.Size {
			return false, errors.Join(fmt.Errorf("logs: a chunk says that it has %d bytes, and has %d", h.Size, n), err)
		}
		if r.raw, err = s2.Decode(r.raw[:cap(r.raw)], packed); err != nil {
			return false, fmt.Errorf("logs: a chunk: %w", err)
		}
		text = r.raw
	}
	if len(text) != h.Size {
		return false, fmt.Errorf("logs: a chunk says that it has %d bytes, and has %d", h.Size, len(text))
	}
	for _, p := range h.Parts {
		if err := r.each(p.Step, text[:p.Bytes:p.Bytes]); err != nil {
			return false, err
		}
		text = text[p.Bytes:]
	}
	r.offset += int64(h.Size)
	return h.End != nil, nil
}

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
	// readTries is how often a reader that reads nothing is made anew where nobody follows.
	readTries = 5
)

// quiet is how long what is there may take to come before the reader is made anew. It is a variable for tests.
var quiet = 10 * time.Second

var (
	errQuiet = errors.New("what was there does not come")
	errWent  = errors.New("the log went while it was read")
)

// Read passes on a log that was found, from the attempt that last names on, to where it stood then or, to follow it, until it is whole.
// It goes on where it was when the bus is away for a while. The text is valid until each returns; its error ends the reading and is
// returned.
func (s *Store) Read(ctx context.Context, last Last, follow bool, each func(step string, text []byte) error) error {
	p := &passing{store: s, last: last, follow: follow, next: 1, reader: reader{attempt: last.Attempt, each: each}}
	pause := soon
	for try := 1; ; try++ {
		before := p.next
		err := p.once(ctx)
		if p.next > before {
			try, pause = 0, soon
		}
		var lost *lostError
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.As(err, &lost):
			return err
		case try == readTries && !follow:
			return fmt.Errorf("logs: %w", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// soon is how long a reader that was lost waits for the next at the least.
const soon = 50 * time.Millisecond

// lostError is an error of the bus, told apart from those of the log and of whoever reads it.
type lostError struct{ error }

func (e *lostError) Unwrap() error { return e.error }

// passing is a log on its way to whoever reads it.
type passing struct {
	store  *Store
	last   Last
	follow bool
	next   uint64 // sequence that was not met yet
	reader
}

// once reads until the end, or until the bus fails.
func (p *passing) once(ctx context.Context) error {
	messages, err := natsd.NewReader(ctx, p.store.js, natsd.Logs, []string{p.last.Run.subject()}, p.next, jetstream.PullMaxMessages(pullChunks))
	if err != nil {
		return &lostError{err}
	}
	defer messages.Close(ctx)
	if messages.Pending() == 0 && !p.follow { // it went in the meantime, or is not in this copy yet
		if p.next == 1 {
			return &lostError{ErrNotFound}
		}
		return &lostError{errWent}
	}
	late := time.AfterFunc(quiet, func() { messages.Fail(errQuiet) }) // what was to come may have gone before it was sent
	defer late.Stop()
	if p.follow { // nothing may come for long; what is there has to
		late.Stop()
		messages.Watch(quiet, p.waits) //nolint:contextcheck // as long as the reader reads, whose context it has
	}
	for {
		if !p.follow {
			late.Reset(quiet)
		}
		m, at, err := messages.Next()
		if err != nil {
			return &lostError{err}
		}
		h, err := parse(m.Headers().Get(headerName))
		if err != nil {
			return err
		}
		whole, err := p.meet(h, m.Data())
		if err != nil || whole {
			return err
		}
		p.next = at.Sequence.Stream + 1
		switch {
		case p.follow:
		case at.Sequence.Stream >= p.last.sequence:
			return p.rest()
		case at.NumPending == 0:
			return &lostError{errWent}
		}
	}
}

// waits asks the leader whether there is a chunk at or behind a sequence.
func (p *passing) waits(ctx context.Context, from uint64) (last uint64, there bool, err error) {
	_, err = natsd.AskLeader(ctx, p.store.js.Conn(), natsd.Logs, map[string]any{"seq": from, "next_by_subj": p.last.Run.subject()})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return from - 1, false, nil
	}
	return 0, err == nil, err
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

package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/natsd"
	runtime "github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// Entry is a message of the stream, as whoever checks it sees it.
type Entry struct {
	events.Event
	Unreadable string // why it is no event; then only its place and kind are known
}

// Letter is a dead letter.
type Letter struct {
	Sequence uint64 // of the message, on the stream
	Subject  string // of it
	Reason   string
	Phase    string
	Stored   time.Time
}

// Ledger is all that there is to check.
type Ledger struct {
	Laps    []Lap
	Acked   []Acknowledged
	Stream  []Entry
	Letters []Letter
	// Poison are the places of the messages that nobody can read, by the proof's own hand.
	Poison map[uint64]bool
}

// ReadStream reads everything that stands on the stream now.
func ReadStream(ctx context.Context, js jetstream.JetStream) ([]Entry, error) {
	host := runtime.Host{JS: js, Log: zap.NewNop()}
	end, err := runtime.LastSequence(ctx, host)
	if err != nil || end == 0 {
		return nil, err
	}
	var all []Entry
	err = runtime.Tail(ctx, host, []string{">"}, 1, func(m runtime.Message) error {
		entry := Entry{}
		var err error
		if entry.Event, err = m.Event(); err != nil {
			entry.Unreadable = err.Error()
			entry.Event = events.Event{Kind: m.Kind, Sequence: m.Sequence, Stored: m.Stored}
		}
		all = append(all, entry)
		if m.Sequence >= end {
			return runtime.ErrStop
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the stream: %w", err)
	}
	return all, nil
}

// ReadLetters reads all dead letters.
func ReadLetters(ctx context.Context, js jetstream.JetStream) ([]Letter, error) {
	s, err := js.Stream(ctx, natsd.DeadLetter)
	if err != nil {
		return nil, err
	}
	left := s.CachedInfo().State.Msgs
	if left == 0 {
		return nil, nil
	}
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, err
	}
	messages, err := c.Messages()
	if err != nil {
		return nil, err
	}
	defer messages.Stop()
	var all []Letter
	for ; left > 0; left-- {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil, fmt.Errorf("read the dead letters: %w", err)
		}
		l := Letter{Subject: m.Headers().Get(runtime.HeaderSubject), Reason: m.Headers().Get(runtime.HeaderReason), Phase: lastToken(m.Subject())}
		if _, err := fmt.Sscan(m.Headers().Get(runtime.HeaderSequence), &l.Sequence); err != nil {
			return nil, fmt.Errorf("a dead letter names no place: %w", err)
		}
		if meta, err := m.Metadata(); err == nil {
			l.Stored = meta.Timestamp
		}
		all = append(all, l)
	}
	return all, nil
}

func lastToken(subject string) string {
	for i := len(subject) - 1; i >= 0; i-- {
		if subject[i] == '.' {
			return subject[i+1:]
		}
	}
	return subject
}

// Quiet waits until every claim has its answer, no work is left to effects and nothing has come for a while: what is still
// missing then does not come.
func Quiet(ctx context.Context, js jetstream.JetStream, still time.Duration) error {
	host := runtime.Host{JS: js, Log: zap.NewNop()}
	var last uint64
	since := time.Now()
	for {
		once, cancel := context.WithTimeout(ctx, 3*time.Second)
		end, err := runtime.LastSequence(once, host)
		pending := -1
		if err == nil {
			pending, err = pendingWork(once, js)
		}
		cancel()
		if err != nil || end != last || pending > 0 {
			last, since = end, time.Now()
		}
		if err == nil && time.Since(since) >= still {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the stream does not come to rest: %d pieces of work are open at %d: %w", pending, end, errors.Join(ctx.Err(), err))
		}
		wait(ctx, 100*time.Millisecond)
	}
}

// pendingWork counts what durable consumers have not acknowledged yet.
func pendingWork(ctx context.Context, js jetstream.JetStream) (n int, err error) {
	for _, name := range []string{natsd.Lifecycle, natsd.Timers} {
		s, err := js.Stream(ctx, name)
		if err != nil {
			return 0, err
		}
		list := s.ListConsumers(ctx)
		for c := range list.Info() {
			if c.Config.Durable != "" {
				n += int(c.NumPending) + c.NumAckPending
			}
		}
		if err := list.Err(); err != nil {
			return 0, err
		}
	}
	return n, nil
}

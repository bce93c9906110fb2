package chaos

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/pkg/events"
)

// slowestAnswer is how long 99 of 100 claims may wait for their answers while poison is met.
const slowestAnswer = 2 * time.Second

// poison puts messages on the stream that nobody can read.
func poison(ctx context.Context, sc *Scene) (Row, error) {
	n := pick(sc, 1000, 60)
	var mu sync.Mutex
	poisoned := map[uint64]bool{}
	var from, to uint64
	row, _, err := sc.play(ctx, act{
		options: Options{Nodes: 1, Copies: 1}, laps: pick(sc, 24, 3), atOnce: 8, limit: 60 * time.Second,
		disturb: func(ctx context.Context, s *Stack, _ *Probe) (string, error) {
			wait(ctx, pick(sc, 8*time.Second, time.Second)) // for comparison
			for i := range n {
				ack, err := s.JS.PublishMsg(ctx, sc.unreadable(i))
				if err != nil {
					return "", fmt.Errorf("publish poison: %w", err)
				}
				mu.Lock()
				poisoned[ack.Sequence] = true
				mu.Unlock()
				if i == 0 {
					from = ack.Sequence
				}
				to = ack.Sequence
				if i%10 == 9 {
					wait(ctx, sc.between(0, 100*time.Millisecond))
				}
			}
			return fmt.Sprintf("%d messages that nobody can read, among the claims and results of all phases", n), nil
		},
		poisoned: func() map[uint64]bool { return poisoned },
		judge: func(row *Row, l Ledger) {
			before, during := answered(l, 1, from), answered(l, from, to+1)
			row.Notes = append(row.Notes, fmt.Sprintf("99 of 100 claims answered within %s before the poison, within %s among it", before.Round(time.Millisecond), during.Round(time.Millisecond)))
			if during > slowestAnswer {
				row.Findings = append(row.Findings, Finding{Slow, fmt.Sprintf("among the poison, 99 of 100 claims were answered within %s; %s at most", during, slowestAnswer)})
			}
		},
	})
	return row, err
}

// unreadable is the i-th message that no service can read.
func (sc *Scene) unreadable(i int) *nats.Msg {
	phases := events.Phases()
	phase := phases[i%len(phases)]
	kind := events.Claim
	if i%4 == 3 {
		kind = events.Result
	}
	m := &nats.Msg{Subject: fmt.Sprintf("%s.poison.%s.ticket.created.k%d", kind, phase, i), Header: nats.Header{}}
	header := func() {
		m.Header.Set("Ce-Specversion", "1.0")
		m.Header.Set("Ce-Id", fmt.Sprintf("poison-%d", i))
		m.Header.Set("Ce-Source", "/chaos/poison")
		m.Header.Set("Ce-Type", "dev.cdevents.ticket.created.0.2.0")
		m.Header.Set("Ce-Project", "poison")
	}
	switch i % 5 {
	case 0: // nothing at all
	case 1:
		m.Data = make([]byte, 1+sc.rng.IntN(4096))
		for j := range m.Data {
			m.Data[j] = byte(sc.rng.Uint32())
		}
	case 2:
		header()
		m.Data = []byte(`{"context":{"version":"0.5.1","id":"x","type":"dev.cdevents.ticket.created.0.2.0"`)
	case 3:
		header()
		m.Header.Set("Ce-Type", "dev.cdevents.nothing.happened.9.9.9")
		m.Data = []byte(`{}`)
	case 4:
		header()
		m.Data = []byte(`{"context":{"type":"dev.cdevents.ticket.created.0.2.0"},"subject":{"content":{"summary":7}}}`)
	}
	return m
}

// answered is the time within which 99 of 100 claims of a part of the stream had their answers.
func answered(l Ledger, from, before uint64) time.Duration {
	at := map[uint64]time.Time{}
	var waits []time.Duration
	for _, m := range l.Stream {
		switch {
		case m.Unreadable != "":
		case m.Kind == events.Claim && m.Sequence >= from && m.Sequence < before:
			at[m.Sequence] = m.Stored
		case m.Kind == events.Stated:
			if said, ok := at[m.CauseSequence]; ok {
				waits = append(waits, m.Stored.Sub(said))
			}
		}
	}
	if len(waits) == 0 {
		return 0
	}
	slices.Sort(waits)
	return waits[(len(waits)*99-1)/100]
}

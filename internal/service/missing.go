package service

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
)

const (
	needsFor     = time.Second            // an answer about what is missing is good for so long
	needsTimeout = 500 * time.Millisecond // for each thing that is asked
	// refusedFor is how long a refusal counts that nothing but another publish could disprove, such as of a full disk.
	refusedFor = 10 * time.Second
)

// needs remembers what a process lacked when it was last looked at, for all who share a host.
type needs struct {
	asking sync.Mutex // held while Redis and the stream are asked
	asked  time.Time
	redis  string

	full    atomic.Bool // refused is set: looked at for each message
	mu      sync.Mutex
	refused time.Time // when the stream last took nothing; zero when it has taken something since
	why     string
}

// Noted remembers whether LIFECYCLE took a message, for [Host.Missing]; it returns the error as it is.
func (h Host) Noted(err error) error {
	n := h.needs
	if n == nil || err == nil && !n.full.Load() {
		return err
	}
	why := h.lackBy(err)
	if why == "" && err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.full.Store(why != "")
	if n.why = why; why == "" {
		n.refused = time.Time{}
	} else {
		n.refused = time.Now()
	}
	return err
}

// lackBy says what a publisher lacked, by the error that it got; empty when it was nothing that others would lack, too.
func (h Host) lackBy(err error) string {
	if why := fullBy(err); why != "" {
		return "the stream " + natsd.Lifecycle + " is full: " + why
	}
	// A server whose disk is full may be silent, and one that has turned its store off has nobody to answer.
	silent := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse)
	if silent && h.Conn.IsConnected() {
		return "the stream " + natsd.Lifecycle + " takes nothing: the bus does not answer; is its disk full?"
	}
	return ""
}

// fullBy says which want of room an error is about; empty when it is about none.
func fullBy(err error) string {
	const ( // of the server
		insufficientResources = 10023
		insufficientStorage   = 10047
		storeFailed           = 10077
	)
	var refused *jetstream.APIError
	if !errors.As(err, &refused) {
		return ""
	}
	switch refused.ErrorCode {
	case insufficientResources, insufficientStorage:
		return refused.Description
	case storeFailed: // for many reasons
		if strings.Contains(refused.Description, "maximum") || strings.Contains(refused.Description, "no space left") {
			return refused.Description
		}
	}
	return ""
}

// Missing lists what this process can not do without and does not have now, a line each: the bus, the store of folds,
// room in the stream. It takes at most a second; what it asks of others it asks once a second.
func (h Host) Missing(ctx context.Context) []string {
	var lines []string
	connected := h.Conn.IsConnected()
	if !connected {
		lines = append(lines, busAway)
	}
	if h.needs == nil {
		return lines
	}
	if redis := h.ask(ctx, connected); redis != "" {
		lines = append(lines, redis)
	}
	h.needs.mu.Lock()
	defer h.needs.mu.Unlock()
	if !h.needs.refused.IsZero() {
		lines = append(lines, h.needs.why)
	}
	return lines
}

// ask looks at the store, and whether a refusal still holds.
func (h Host) ask(ctx context.Context, connected bool) string {
	n := h.needs
	n.asking.Lock()
	defer n.asking.Unlock()
	if time.Since(n.asked) < needsFor {
		return n.redis
	}
	// The answer is for others, too: one who goes away takes it from nobody.
	ctx = context.WithoutCancel(ctx)
	n.redis = ""
	ping, cancel := context.WithTimeout(ctx, needsTimeout)
	if h.Folds != nil && h.Folds.Client().Ping(ping).Err() != nil {
		n.redis = foldsAway
	}
	cancel()
	n.mu.Lock()
	refused := n.refused
	limit := strings.Contains(n.why, "maximum")
	n.mu.Unlock()
	if !refused.IsZero() && connected {
		over := time.Since(refused) > refusedFor
		if limit {
			over = h.room(ctx)
		}
		n.mu.Lock()
		if over && n.refused.Equal(refused) {
			n.refused = time.Time{}
			n.full.Store(false)
		}
		n.mu.Unlock()
	}
	n.asked = time.Now()
	return n.redis
}

// room reports whether the limits of the stream leave room for the largest event.
func (h Host) room(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, needsTimeout)
	defer cancel()
	s, err := h.JS.Stream(ctx, natsd.Lifecycle)
	if err != nil {
		return false
	}
	c, at := s.CachedInfo().Config, s.CachedInfo().State
	return (c.MaxMsgs <= 0 || at.Msgs < uint64(c.MaxMsgs)) && (c.MaxBytes <= 0 || at.Bytes+natsd.MaxEvent < uint64(c.MaxBytes))
}

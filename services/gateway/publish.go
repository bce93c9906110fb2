package gateway

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/pkg/events"
)

const publishTimeout = 5 * time.Second

// receipt is the answer to a claim that is on the stream.
type receipt struct {
	ID        string       `json:"id"`
	Sequence  uint64       `json:"sequence"`
	Project   string       `json:"project"`
	Phase     events.Phase `json:"phase"`
	Duplicate bool         `json:"duplicate,omitempty"`
}

// put publishes a claim and returns when the stream has it; a claim that it has already is not there twice.
func (g *Gateway) put(ctx context.Context, c claim) (receipt, error) {
	answer := receipt{ID: c.event.ID, Project: c.event.Project, Phase: c.event.Phase}
	if !g.host.Conn.IsConnected() {
		return answer, errAway
	}
	// The stream's own memory of ids is two minutes long; the index remembers what is older.
	if at, err := g.index.claimed(ctx, c.id); err != nil {
		g.log.Warn("the index does not answer; a claim older than two minutes would not be recognised", zap.Error(err))
	} else if at > 0 {
		answer.Sequence, answer.Duplicate = at, true
		g.metrics.duplicates.Add(1)
		return answer, nil
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	ack, err := g.host.JS.PublishMsg(ctx, c.message, jetstream.WithRetryAttempts(0))
	if err != nil {
		return answer, away(fmt.Errorf("publish %s: %w", c.event.Type.Short(), err))
	}
	answer.Sequence, answer.Duplicate = ack.Sequence, ack.Duplicate
	if ack.Duplicate {
		g.metrics.duplicates.Add(1)
	} else {
		g.metrics.claims.Add(1)
	}
	return answer, nil
}

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/nats-io/nats.go/jetstream"

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

// put publishes a claim and returns when the stream has it. A claim that is there already, by principal, source and id, is
// not put there twice, however long ago it came; where another event stands under that name, the error says so. Three memories follow one another without a gap. The stream knows the ids
// of the last two minutes, also of two that come at the same moment; the index knows those that it has taken in; and what
// this gateway has published and the index has not met yet, recent knows. Where the index can not be asked, or is behind by
// so much of the two minutes that what another gateway has published may be known to none of them, nothing is published.
func (g *Gateway) put(ctx context.Context, c claim) (receipt, error) {
	if !g.host.Conn.IsConnected() {
		return receipt{}, errAway
	}
	if g.index.lag.tooFar() {
		return receipt{}, fmt.Errorf("%w: the index is too far behind", errAway)
	}
	at, ok := g.recent.find(c.id)
	if !ok {
		var err error
		if at, err = g.index.claimed(ctx, c.id); err != nil {
			return receipt{}, err
		}
	}
	if at > 0 {
		if answer, is, err := g.standing(ctx, c, at); err != nil || is {
			return answer, err
		}
	}
	if g.recent.full(g.index.at.Load()) {
		return receipt{}, fmt.Errorf("%w: the index is too far behind", errAway)
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	began := time.Now()
	ack, err := g.host.JS.PublishMsg(ctx, c.message, jetstream.WithRetryAttempts(0))
	if g.host.Noted(err) != nil {
		return receipt{}, away(fmt.Errorf("publish %s: %w", c.event.Type.Short(), err))
	}
	if ack.Duplicate {
		answer, is, err := g.standing(ctx, c, ack.Sequence)
		if err == nil && !is { // the stream takes it for a message that is none of this principal's claims
			err = refuse(http.StatusConflict, "source and id are taken by the message at %d; an id may be used once", ack.Sequence)
		}
		return answer, err
	}
	g.recent.add(c.id, ack.Sequence, g.index.at.Load())
	g.metrics.claims.Add(1)
	g.host.Trace.Claim(c.event, ack.Sequence, began, c.outside)
	return receipt{ID: c.event.ID, Sequence: ack.Sequence, Project: c.event.Project, Phase: c.event.Phase}, nil
}

// standing is the receipt of the claim that stands at a sequence, which was made by the same principal with the same
// source and id; false when another one stands there. The same principal's other event under that source and id is an error:
// an answer that it is there would lose the new one.
func (g *Gateway) standing(ctx context.Context, c claim, at uint64) (receipt, bool, error) {
	e, _, err := g.read(ctx, at)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound): // dropped by a limit that an operator has set; it was there
		e = c.event
	case err != nil:
		return receipt{}, false, err
	case e.Kind != events.Claim || messageID(e.Type, e.Principal, e.Source, e.ID) != c.id:
		return receipt{}, false, nil
	case !c.derived && (e.Type != c.event.Type || e.SubjectID != c.event.SubjectID || e.Project != c.event.Project):
		return receipt{}, false, refuse(http.StatusConflict,
			"source and id name another event, %s at %d; an id may be used once", e.Type.Short(), at)
	}
	g.metrics.duplicates.Add(1)
	return receipt{ID: e.ID, Sequence: at, Project: e.Project, Phase: e.Phase, Duplicate: true}, true, nil
}

// messageID is what a claim is known by. A dead letter that is sent again is so once, whoever asks for it.
func messageID(t events.Type, principal, source, id string) string {
	if t == resent {
		principal = ""
	}
	return events.ClaimMessageID(principal, source, id)
}

var resent = events.TypeOf(events.DeadLetterResent{})

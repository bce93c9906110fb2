package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// publisher puts the facts of one worker on the stream, one at a time, and waits for each ack. It
// does what jetstream's PublishMsg does, but takes the acks on an inbox of its own: they come from
// the connection's reader straight to the worker, without the goroutine between them that hands out
// all replies of a connection.
type publisher struct {
	nc      *nats.Conn
	sub     *nats.Subscription
	inbox   string
	sent    uint64
	replies chan *nats.Msg
	timer   *time.Timer
}

// repliesKept is room for acks that come when nobody waits for them any more.
const repliesKept = 64

func newPublisher(nc *nats.Conn) (*publisher, error) {
	p := &publisher{nc: nc, inbox: nc.NewInbox() + ".", replies: make(chan *nats.Msg, repliesKept), timer: time.NewTimer(publishTimeout)}
	var err error
	if p.sub, err = nc.ChanSubscribe(p.inbox+"*", p.replies); err != nil {
		return nil, fmt.Errorf("listen for acks: %w", err)
	}
	return p, nil
}

func (p *publisher) close() {
	p.timer.Stop()
	_ = p.sub.Unsubscribe() // the connection is closed: so is the subscription
}

// publish returns the stream's ack. Without an error the message is stored, or was before.
func (p *publisher) publish(ctx context.Context, msg *nats.Msg) (jetstream.PubAck, error) {
	p.sent++
	msg.Reply = p.inbox + formatUint(p.sent)
	p.timer.Reset(publishTimeout)
	if err := p.nc.PublishMsg(msg); err != nil {
		return jetstream.PubAck{}, err
	}
	for {
		select {
		case reply := <-p.replies:
			if reply.Subject == msg.Reply { // else of an earlier one that came too late
				return readAck(reply)
			}
		case <-p.timer.C:
			return jetstream.PubAck{}, nats.ErrTimeout
		case <-ctx.Done():
			return jetstream.PubAck{}, ctx.Err()
		}
	}
}

var errNoAck = errors.New("the answer is no ack of a stream")

func readAck(reply *nats.Msg) (jetstream.PubAck, error) {
	if len(reply.Data) == 0 && reply.Header.Get("Status") == "503" {
		return jetstream.PubAck{}, jetstream.ErrNoStreamResponse
	}
	var ack struct {
		jetstream.PubAck
		Error *jetstream.APIError `json:"error"`
	}
	switch err := json.Unmarshal(reply.Data, &ack); {
	case err != nil:
		return jetstream.PubAck{}, fmt.Errorf("%w: %w", errNoAck, err)
	case ack.Error != nil:
		return jetstream.PubAck{}, ack.Error
	case ack.Stream == "":
		return jetstream.PubAck{}, errNoAck
	}
	return ack.PubAck, nil
}

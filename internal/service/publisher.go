package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
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
	awaited string // subject of the reply to what was sent last
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

// send puts a message on its way; its ack has to be here before the next one is sent.
func (p *publisher) send(msg *nats.Msg) error {
	p.sent++
	p.awaited = p.inbox + formatUint(p.sent)
	msg.Reply = p.awaited
	p.timer.Reset(publishTimeout)
	return p.nc.PublishMsg(msg)
}

// answers reports whether a reply is to the message that was sent last, not to an earlier one that it comes too late for.
func (p *publisher) answers(reply *nats.Msg) bool { return reply.Subject == p.awaited }

// await returns the reply to what was sent last.
func (p *publisher) await(ctx context.Context) (*nats.Msg, error) {
	for {
		select {
		case reply := <-p.replies:
			if p.answers(reply) {
				return reply, nil
			}
		case <-p.timer.C:
			return nil, nats.ErrTimeout
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

var errNoAck = errors.New("the answer is no ack of a stream")

// readAck reads the stream's ack. Without an error the message is stored, or was before.
func readAck(reply *nats.Msg) (jetstream.PubAck, error) {
	if len(reply.Data) == 0 && reply.Header.Get("Status") == "503" {
		return jetstream.PubAck{}, jetstream.ErrNoStreamResponse
	}
	if sequence, plain := plainAck(reply.Data); plain {
		return jetstream.PubAck{Stream: natsd.Lifecycle, Sequence: sequence}, nil
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

// plainAck reads the ack that says nothing but where a message stands, as the server writes it; false for any other.
func plainAck(data []byte) (sequence uint64, plain bool) {
	rest, plain := bytes.CutPrefix(data, []byte(`{"stream":"`+natsd.Lifecycle+`","seq":`))
	n := len(rest) - 1
	if !plain || n < 1 || n > 18 || rest[n] != '}' {
		return 0, false
	}
	for _, c := range rest[:n] {
		if c < '0' || c > '9' {
			return 0, false
		}
		sequence = 10*sequence + uint64(c-'0')
	}
	return sequence, true
}

package service

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What is read by hand of an ack is what JSON says; all else goes to encoding/json.
func TestPlainAcks(t *testing.T) {
	for data, want := range map[string]uint64{
		`{"stream":"LIFECYCLE","seq":1}`:                  1,
		`{"stream":"LIFECYCLE","seq":999999999999999999}`: 999999999999999999,
	} {
		var ack jetstream.PubAck
		if err := json.Unmarshal([]byte(data), &ack); err != nil || ack.Sequence != want {
			t.Fatal(ack, err)
		}
		if got, plain := plainAck([]byte(data)); !plain || got != want {
			t.Errorf("%s: %d, %v", data, got, plain)
		}
	}
	for _, data := range []string{
		``, `{"stream":"LIFECYCLE","seq":`, `{"stream":"LIFECYCLE","seq":}`, `{"stream":"LIFECYCLE","seq":1`, `{"stream":"LIFECYCLE","seq":1,"duplicate":true}`,
		`{"stream":"LIFECYCLE","domain":"d","seq":1}`, `{"stream":"OTHER","seq":1}`, `{"stream":"LIFECYCLE","seq":1}}`, `{"stream":"LIFECYCLE","seq":-1}`,
		`{"stream":"LIFECYCLE","seq":18446744073709551616}`, `{"error":{"code":503},"stream":"LIFECYCLE","seq":1}`,
	} {
		if got, plain := plainAck([]byte(data)); plain {
			t.Errorf("%s is taken for a plain ack of %d", data, got)
		}
	}
}

// The stream's own acks are the ones that are read by hand, and what they say is what the client library makes of them.
func TestTheServerAcksPlainly(t *testing.T) {
	b := newBus(t)
	for range 2 { // the second one is a duplicate
		msg := benchClaim(1)
		msg.Header[headerMsgID] = []string{"once"}
		reply, err := b.host.Conn.RequestMsg(msg, publishTimeout)
		if err != nil {
			t.Fatal(err)
		}
		var want jetstream.PubAck
		if err := json.Unmarshal(reply.Data, &want); err != nil {
			t.Fatal(err)
		}
		got, err := readAck(&nats.Msg{Data: reply.Data})
		if err != nil || got != want {
			t.Errorf("%s: %+v (%v), want %+v", reply.Data, got, err, want)
		}
		if _, plain := plainAck(reply.Data); plain == want.Duplicate {
			t.Errorf("%s: plain %v", reply.Data, plain)
		}
	}
}

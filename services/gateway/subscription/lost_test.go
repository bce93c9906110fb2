package subscription

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// told is a stream of which only the leader's word is asked.
type told struct {
	jetstream.Stream
	state jetstream.StreamState
}

func (s told) Info(context.Context, ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	return &jetstream.StreamInfo{State: s.state}, nil
}

// A replica that is behind does not make a fact gone.
func TestLostOnlyByTheLeader(t *testing.T) {
	stream := told{state: jetstream.StreamState{FirstSeq: 5, LastSeq: 9, Deleted: []uint64{7}}}
	for sequence, gone := range map[uint64]bool{4: true, 5: false, 7: true, 9: false, 10: true} {
		if err := lost(t.Context(), stream, sequence); (err == nil) != gone {
			t.Errorf("%d: %v", sequence, err)
		}
	}
}

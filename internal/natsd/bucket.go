package natsd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// mostEntries bounds one reading of a bucket.
const mostEntries = 100_000

// Kept is what a bucket says last of a key.
type Kept struct {
	Key      string
	Value    []byte // nil when Gone
	Revision uint64
	Gone     bool      // deleted or purged
	Time     time.Time // when that was stored, by the bus's clock
}

// ReadBucket reads a whole bucket with a history of 1 in one question, which any of its replicas answers. It takes no consumer: one that
// follows a bucket hears of nothing for some time when its server has died.
func ReadBucket(ctx context.Context, js jetstream.JetStream, bucket string) ([]Kept, error) {
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	msgs, err := jetstreamext.GetBatch(ctx, js, "KV_"+bucket, mostEntries)
	if err != nil {
		return nil, fmt.Errorf("read bucket %s: %w", bucket, err)
	}
	var all []Kept
	for m, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read bucket %s: %w", bucket, err)
		}
		all = append(all, kept(bucket, m))
	}
	return all, nil
}

func kept(bucket string, m *jetstream.RawStreamMsg) Kept {
	e := Kept{Key: strings.TrimPrefix(m.Subject, "$KV."+bucket+"."), Value: m.Data, Revision: m.Sequence, Time: m.Time}
	if m.Header.Get("KV-Operation") != "" || m.Header.Get("Nats-Marker-Reason") != "" {
		e.Value, e.Gone = nil, true
	}
	return e
}

// Latest is what the leader of a bucket says last of a key; [jetstream.ErrKeyNotFound] when that is nothing, or that it is gone. A
// bucket's own Get asks any of its replicas, to which one that is behind says that there is no such key. Whoever makes a key that is gone
// updates it from the revision of Latest, which is 0 where there never was one: Create of one that was erased asks any replica too.
func Latest(ctx context.Context, js jetstream.JetStream, bucket, key string) (Kept, error) {
	m, err := AskLeader(ctx, js.Conn(), "KV_"+bucket, map[string]any{"last_by_subj": "$KV." + bucket + "." + key})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		err = jetstream.ErrKeyNotFound
	}
	if err != nil {
		return Kept{}, err
	}
	e := kept(bucket, m)
	if e.Gone {
		return e, jetstream.ErrKeyNotFound
	}
	return e, nil
}

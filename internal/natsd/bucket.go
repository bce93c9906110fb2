package natsd

import (
	"context"
	"errors"
	"fmt"
	"strings"

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
	Gone     bool // deleted or purged
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
		e := Kept{Key: strings.TrimPrefix(m.Subject, "$KV."+bucket+"."), Value: m.Data, Revision: m.Sequence}
		if m.Header.Get("KV-Operation") != "" || m.Header.Get("Nats-Marker-Reason") != "" {
			e.Value, e.Gone = nil, true
		}
		all = append(all, e)
	}
	return all, nil
}

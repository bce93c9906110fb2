package backup

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
)

const (
	bucketPrefix  = "KV_"
	submitPrefix  = "SUBMIT_"
	subscriptions = bucketPrefix + "SUBSCRIPTIONS"
	leases        = bucketPrefix + natsd.Leases
)

// known are the streams of an installation beside the inboxes.
var known = []string{natsd.Lifecycle, natsd.Timers, natsd.DeadLetter, "WEBHOOKS", natsd.Snapshots, leases, subscriptions, bucketPrefix + "KEYS", bucketPrefix + "TOKENS"}

// ours reports whether a stream belongs to an installation.
func ours(stream string) bool {
	return slices.Contains(known, stream) || strings.HasPrefix(stream, submitPrefix)
}

// rank is when a stream is copied: see the package's documentation.
func rank(stream string) int {
	switch {
	case stream == leases:
		return 0
	case stream == natsd.Timers:
		return 1
	case strings.HasPrefix(stream, submitPrefix), stream == subscriptions, stream == natsd.Snapshots:
		return 2
	case stream == natsd.Lifecycle:
		return 3
	default:
		return 4
	}
}

// streams lists those of an installation, in the order in which they are copied.
func streams(ctx context.Context, js jetstream.JetStream) ([]string, error) {
	var found []string
	names := js.StreamNames(ctx)
	for name := range names.Name() {
		if ours(name) {
			found = append(found, name)
		}
	}
	if err := names.Err(); err != nil {
		return nil, fmt.Errorf("list the streams: %w", err)
	}
	slices.SortFunc(found, func(a, b string) int {
		if ra, rb := rank(a), rank(b); ra != rb {
			return ra - rb
		}
		return strings.Compare(a, b)
	})
	return found, nil
}

// timerSetter reports whether a consumer of LIFECYCLE sets timers.
func timerSetter(consumer string) bool {
	return strings.HasPrefix(consumer, "effect-") && strings.HasSuffix(consumer, "-timers")
}

// timerFloors are the sequences up to which all timers that facts ask for are set, by consumer.
func timerFloors(ctx context.Context, js jetstream.JetStream) (map[string]uint64, error) {
	stream, err := js.Stream(ctx, natsd.Lifecycle)
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", natsd.Lifecycle, err)
	}
	floors := map[string]uint64{}
	consumers := stream.ListConsumers(ctx)
	for c := range consumers.Info() {
		if timerSetter(c.Name) {
			floors[c.Name] = c.AckFloor.Stream
		}
	}
	if err := consumers.Err(); err != nil {
		return nil, fmt.Errorf("list the consumers: %w", err)
	}
	return floors, nil
}

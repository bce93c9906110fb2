package natsd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// retainKey is where LIFECYCLE keeps, in its metadata, that old events go: the administrator's one setting.
const retainKey = "lemnis-retain"

// RetainOf is how long events are kept at least, as the stream says; 0 for ever.
func RetainOf(info *jetstream.StreamInfo) time.Duration {
	d, err := time.ParseDuration(info.Config.Metadata[retainKey])
	if err != nil {
		return 0
	}
	return d
}

// SetRetain notes how long events are kept at least; 0 for ever. From then on folds are kept as they are now and then.
func SetRetain(ctx context.Context, js jetstream.JetStream, keep time.Duration) error {
	stream, err := js.Stream(ctx, Lifecycle)
	if err != nil {
		return fmt.Errorf("look at %s: %w", Lifecycle, err)
	}
	if RetainOf(stream.CachedInfo()) == keep {
		return nil
	}
	cfg := stream.CachedInfo().Config
	if cfg.DenyPurge {
		return errSealed
	}
	if cfg.Metadata == nil {
		cfg.Metadata = map[string]string{}
	}
	delete(cfg.Metadata, retainKey)
	if keep > 0 {
		cfg.Metadata[retainKey] = keep.String()
	}
	if _, err := js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("note how long events are kept: %w", err)
	}
	return nil
}

// errSealed says that a stream was made to be kept for ever, which the server never takes back.
var errSealed = errors.New("this LIFECYCLE was made by a version whose streams can not be purged; back it up (lemnis backup) and restore it into an empty installation, whose stream can")

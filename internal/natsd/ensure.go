package natsd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A cluster that has no leader yet drops what it is asked, without an answer; and of several who make or change one stream at the
// same moment some get none. So nothing waits for long: it is asked again, and what is there by then is not made again.
const (
	ensureTimeout   = 60 * time.Second // for everything
	attemptTimeout  = 5 * time.Second  // for one stream to be made
	cacheTimeout    = 15 * time.Second // for CACHE, where all is made
	questionTimeout = 2 * time.Second  // for what a server knows
)

// errNoAnswer says what an operator can do about a bus that takes connections and answers nothing.
var errNoAnswer = errors.New("no answer: a cluster has no leader before most of its servers are there, and a service's key may not make what lemnis streams makes")

// insist repeats what may fail while a cluster has no leader, or while another service is doing the same, until the context ends.
// What the server refuses for good it does not repeat.
func insist(ctx context.Context, attempt func(context.Context) error) error {
	for {
		once, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := attempt(once)
		cancel()
		var refused *jetstream.APIError
		if err == nil || errors.Is(err, errForeignStream) ||
			errors.As(err, &refused) && refused.Code == 400 && refused.ErrorCode != jetstream.JSErrCodeStreamNameInUse && refused.ErrorCode != noPeers && !Overtaken(err) {
			return err
		}
		select {
		case <-ctx.Done():
			if errors.Is(err, context.DeadlineExceeded) {
				err = fmt.Errorf("%w: %w", err, errNoAnswer)
			}
			return err
		case <-time.After(50*time.Millisecond + rand.N(200*time.Millisecond)): //nolint:gosec // those who began together should not go on together
		}
	}
}

// The server's codes for a stream that would hold more than the store has left, and for one that not enough servers of the cluster
// can take: they are not there yet, are busy, or have too little room.
const (
	noStorage jetstream.ErrorCode = 10047
	noPeers   jetstream.ErrorCode = 10005
)

// noRoom tells whether a stream was refused because it may hold too much.
func noRoom(err error) bool {
	var refused *jetstream.APIError
	return errors.As(err, &refused) && (refused.ErrorCode == noStorage || refused.ErrorCode == noPeers && strings.Contains(refused.Description, "insufficient storage"))
}

// look reads what a stream is.
func look(ctx context.Context, js jetstream.JetStream, name string) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	st, err := js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	return st.CachedInfo(), nil
}

// EnsureStream creates a stream, or brings the one that is there up to date; limits that an operator has set on it stay. Several
// processes may call it at the same time.
func EnsureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	return insist(ctx, func(ctx context.Context) error {
		_, err := ensureOnce(ctx, js, want)
		return err
	})
}

func ensureOnce(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	info, err := look(ctx, js, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		var st jetstream.Stream
		st, err = js.CreateStream(ctx, want)
		switch {
		case err == nil:
			info = st.CachedInfo()
		case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse): // another was first, with another identity
			info, err = look(ctx, js, want.Name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ensure stream %s: %w", want.Name, err)
	}
	have := info.Config
	want.Metadata = have.Metadata
	want.MaxAge, want.MaxMsgs, want.MaxBytes = have.MaxAge, have.MaxMsgs, have.MaxBytes
	if upToDate(have, want) {
		return info, nil
	}
	st, err := js.UpdateStream(ctx, want)
	if err != nil {
		return nil, fmt.Errorf("update stream %s: %w", want.Name, err)
	}
	return st.CachedInfo(), nil
}

// upToDate spares the members of a cluster an update that changes nothing. It compares what a later version of this package may
// change.
func upToDate(have, want jetstream.StreamConfig) bool {
	return strings.Join(have.Subjects, " ") == strings.Join(want.Subjects, " ") &&
		have.Replicas == want.Replicas &&
		have.MaxMsgSize == want.MaxMsgSize &&
		have.Duplicates == want.Duplicates &&
		have.AllowDirect == want.AllowDirect &&
		have.AllowMsgSchedules == want.AllowMsgSchedules &&
		have.Description == want.Description
}

// EnsureBucket opens a bucket, and makes it when it is not there; one that is there stays as it is. Several processes may call it
// at the same time, also in a cluster that has only begun.
func EnsureBucket(ctx context.Context, js jetstream.JetStream, want jetstream.KeyValueConfig) (kv jetstream.KeyValue, err error) {
	want.Replicas = max(want.Replicas, 1)
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	err = insist(ctx, func(ctx context.Context) error {
		kv, err = bucketOnce(ctx, js, want)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ensure bucket %s: %w", want.Bucket, err)
	}
	return kv, nil
}

func bucketOnce(ctx context.Context, js jetstream.JetStream, want jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	asking, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	kv, err := js.KeyValue(asking, want.Bucket)
	if !errors.Is(err, jetstream.ErrBucketNotFound) {
		return kv, err
	}
	kv, err = js.CreateKeyValue(ctx, want)
	if errors.Is(err, jetstream.ErrBucketExists) { // another was first
		kv, err = js.KeyValue(ctx, want.Bucket)
	}
	return kv, err
}

// Overtaken reports whether an entry of a bucket, or a message, was not written because another write came first, in a cluster
// also one that is still under way.
func Overtaken(err error) bool {
	var refused *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) || errors.As(err, &refused) &&
		(refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

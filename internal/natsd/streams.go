package natsd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Names of the streams and of the bucket of leases.
const (
	Lifecycle  = "LIFECYCLE"
	Timers     = "TIMERS"
	DeadLetter = "DEADLETTER"
	Snapshots  = "SNAPSHOTS"
	Logs       = "LOGS"
	Cache      = "CACHE"
	Leases     = "LEASES"

	submitPrefix = "SUBMIT_"
	// IdentityKey is where LIFECYCLE keeps its identity, in its metadata.
	IdentityKey = "lemnis-identity"
)

// Partitions is the number of subjects that the keys of one type of event in
// one project are stored under.
const Partitions = 64

// submitBytes bounds what one principal can have waiting.
const submitBytes = 256 << 20

// identityCandidate is the key in LEASES by which those who make LIFECYCLE
// agree on its identity.
const identityCandidate = "identity-of-new-stream"

// LogsAge is how long LOGS keeps anything. An operator may change it on the stream, as what it holds at the most.
const LogsAge = 14 * 24 * time.Hour

const (
	logsBytes  = 4 << 30
	cacheBytes = 2 << 30
	cacheAge   = 14 * 24 * time.Hour
	// cacheMessages bounds how many subjects of CACHE the server has to remember.
	cacheMessages = 200_000
	// leastLogs and leastCache are what LOGS and CACHE are made with at the least, where the store has little room.
	leastLogs  = 64 << 20
	leastCache = 512 << 20
)

// DuplicateWindow is how long a stream remembers message ids.
const DuplicateWindow = 2 * time.Minute

// EnsureStreams creates what is missing of LIFECYCLE, TIMERS, DEADLETTER,
// SNAPSHOTS, LOGS, CACHE, SUBMIT_local and the bucket LEASES, brings what is there up to date, and
// returns the identity of LIFECYCLE: random, made when the stream was, never
// changed. Limits that an operator has set on an existing stream stay. Several
// services may call it at the same time.
//
// TIMERS holds one message a pending deadline, on timers.set.<…>, with the
// headers Nats-Schedule ("@at " and a time in RFC 3339) and
// Nats-Schedule-Target (a subject under timers.fired.). At that time, in whole
// seconds and never before, the server moves the body to the target and drops
// the setting; a time that has passed fires at once, also after a restart. An
// ack of the firing removes it. Setting the same subject again before it fired
// replaces the setting (a schedule is a rollup of its subject), and a purge of
// the subject cancels it. Consumers need a filter under timers.fired. and
// explicit acks, and two of them may not overlap (work queue).
func EnsureStreams(ctx context.Context, js jetstream.JetStream, replicas int) (identity string, err error) {
	return EnsureStreamsTold(ctx, js, replicas, func(error) {})
}

// EnsureStreamsTold is EnsureStreams that tells what went wrong and keeps nobody from starting.
func EnsureStreamsTold(ctx context.Context, js jetstream.JetStream, replicas int, tell func(error)) (identity string, err error) {
	replicas = max(replicas, 1)
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	// A service's key may look, but not make: where all is there, that is enough.
	err = insist(ctx, func(ctx context.Context) error {
		identity, err = whole(ctx, js, replicas)
		return err
	})
	if err != nil {
		return "", err
	}
	if identity != "" {
		giveBackLogs(ctx, js, tell)
		tryCache(ctx, js, replicas, questionTimeout, tell)
		return identity, nil
	}
	leases, err := ensureLeases(ctx, js, replicas)
	if err != nil {
		return "", err
	}
	if identity, err = ensureLifecycle(ctx, js, leases, replicas); err != nil {
		return "", err
	}
	for _, cfg := range []jetstream.StreamConfig{timersConfig(replicas), deadLetterConfig(replicas), snapshotsConfig(replicas)} {
		if err := EnsureStream(ctx, js, cfg); err != nil {
			return "", err
		}
	}
	if err := EnsureSubmit(ctx, js, Local, replicas); err != nil {
		return "", err
	}
	if err := ensureLogs(ctx, js, replicas); err != nil {
		return "", err
	}
	tryCache(ctx, js, replicas, cacheTimeout, tell)
	return identity, nil
}

// spare is what LOGS, where it gets all that it is to keep, and CACHE leave of a store for what is made later: inboxes of principals, and
// webhooks. The odd byte tells a size that is tried from one that an operator has set.
const (
	odd   = 1
	spare = 5*submitBytes + odd
)

// ensureCache makes CACHE, at most as large as the store has room for and something to spare: the server sets aside what a stream may hold.
// Where that is too little to be of use there is none: builders do without it. Nor is there where this connection's key may not change it.
func ensureCache(ctx context.Context, js jetstream.JetStream, replicas int) error {
	if !mayChange(ctx, js, Cache) {
		return nil
	}
	want := cacheConfig(replicas)
	want.MaxBytes += spare
	var tooSmall error
	err := insist(ctx, func(ctx context.Context) error {
		info, err := ensureOnce(ctx, js, want)
		if noRoom(err) {
			if want.MaxBytes = (want.MaxBytes-spare)/2 + spare; want.MaxBytes < leastCache+spare {
				tooSmall = err
				return nil
			}
		}
		if err != nil {
			return err
		}
		if size, trial := tried(info.Config.MaxBytes); trial { // made here, or by one that got no further
			less := info.Config
			less.MaxBytes = size
			_, err = js.UpdateStream(ctx, less)
		}
		return err
	})
	return errors.Join(err, tooSmall)
}

// tried is what CACHE is to hold where it was made with something to spare; trial is false where that has been given back.
func tried(bytes int64) (size int64, trial bool) {
	for size = cacheBytes; size >= leastCache; size /= 2 {
		if bytes == size+spare {
			return size, true
		}
	}
	return bytes, false
}

// tryCache makes CACHE, or brings it up to date, where all else is there: an earlier version did not know it, or there was no room.
// What becomes of it keeps nobody from starting.
func tryCache(ctx context.Context, js jetstream.JetStream, replicas int, within time.Duration, tell func(error)) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if info, err := look(ctx, js, Cache); err == nil && upToDate(info.Config, cacheConfig(replicas)) {
		if _, trial := tried(info.Config.MaxBytes); !trial {
			return
		}
	}
	if err := ensureCache(ctx, js, replicas); err != nil {
		tell(fmt.Errorf("builders do without a cache that they share: %w", err))
	}
}

// mayChange tells whether this connection's key may change a stream, as also whoever makes one has to: what it may not is dropped, and not
// answered. The server says what it drops before it says that it has read on. What is sent changes nothing.
func mayChange(ctx context.Context, js jetstream.JetStream, stream string) bool {
	nc, subject := js.Conn(), jetstream.DefaultAPIPrefix+"STREAM.UPDATE."+stream
	if err := nc.PublishRequest(subject, nc.NewInbox(), nil); err != nil {
		return false
	}
	if err := nc.FlushWithContext(ctx); err != nil {
		return false
	}
	refused := nc.LastError()
	return !errors.Is(refused, nats.ErrPermissionViolation) || !strings.Contains(refused.Error(), `"`+subject+`"`)
}

// ensureLogs makes LOGS as large as the store has room for, and something to spare. Where that is less than all that it is to keep, it
// leaves three quarters of it to those who come after it.
func ensureLogs(ctx context.Context, js jetstream.JetStream, replicas int) error {
	want := logsConfig(replicas)
	want.MaxBytes += spare
	return insist(ctx, func(ctx context.Context) error {
		info, err := ensureOnce(ctx, js, want)
		if noRoom(err) && want.MaxBytes > leastLogs+odd {
			want.MaxBytes = min(want.MaxBytes, logsBytes)/2 + odd
		}
		if err != nil {
			return err
		}
		return settleLogs(ctx, js, info.Config)
	})
}

// settleLogs gives back what LOGS was tried with beyond what it is to hold: by this process, or by one that got no further.
func settleLogs(ctx context.Context, js jetstream.JetStream, have jetstream.StreamConfig) error {
	size, trial := triedLogs(have.MaxBytes)
	if !trial {
		return nil
	}
	have.MaxBytes = size
	_, err := js.UpdateStream(ctx, have)
	return err
}

// giveBackLogs does so where all else is there, and this connection's key may. It keeps nobody from starting.
func giveBackLogs(ctx context.Context, js jetstream.JetStream, tell func(error)) {
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	info, err := look(ctx, js, Logs)
	if err == nil {
		if _, trial := triedLogs(info.Config.MaxBytes); !trial || !mayChange(ctx, js, Logs) {
			return
		}
		err = settleLogs(ctx, js, info.Config)
	}
	if err != nil {
		tell(fmt.Errorf("stream %s keeps room that it does not need: %w", Logs, err))
	}
}

// triedLogs is what LOGS is to hold where it was made to see how much room there is; trial is false where that has been settled.
func triedLogs(bytes int64) (size int64, trial bool) {
	if bytes == logsBytes+spare {
		return logsBytes, true
	}
	for half := int64(logsBytes / 2); half >= leastLogs; half /= 2 {
		if bytes == half+odd {
			return max(half/4, leastLogs), true
		}
	}
	return bytes, false
}

// whole is the identity of LIFECYCLE where everything but CACHE is there and up to date, else empty.
func whole(ctx context.Context, js jetstream.JetStream, replicas int) (identity string, err error) {
	for _, want := range []jetstream.StreamConfig{lifecycleConfig(replicas), timersConfig(replicas), deadLetterConfig(replicas), snapshotsConfig(replicas), logsConfig(replicas), submitConfig(Local, replicas)} {
		info, err := look(ctx, js, want.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return "", nil
		case err != nil:
			return "", fmt.Errorf("look at stream %s: %w", want.Name, err)
		case !upToDate(info.Config, want):
			return "", nil
		}
		if want.Name == Lifecycle {
			identity = info.Config.Metadata[IdentityKey]
		}
	}
	info, err := look(ctx, js, "KV_"+Leases)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("look at bucket %s: %w", Leases, err)
	case info.Config.Replicas != replicas:
		return "", nil
	}
	return identity, nil
}

// ensureLifecycle first has the callers agree on the identity of a stream that
// is to be made, by a key that only one of them can create: two creations of
// one stream with different configurations at the same moment hang in a
// cluster. Once there is a stream, only what its metadata says counts, and the
// key is dropped, so that a stream made later has another identity.
func ensureLifecycle(ctx context.Context, js jetstream.JetStream, leases jetstream.KeyValue, replicas int) (identity string, err error) {
	err = insist(ctx, func(ctx context.Context) error {
		cfg := lifecycleConfig(replicas)
		if _, err := look(ctx, js, Lifecycle); errors.Is(err, jetstream.ErrStreamNotFound) {
			candidate, err := agreeOnIdentity(ctx, leases)
			if err != nil {
				return err
			}
			cfg.Metadata = map[string]string{IdentityKey: candidate}
		} else if err != nil {
			return err
		}
		info, err := ensureOnce(ctx, js, cfg)
		if err != nil {
			return err
		}
		if identity = info.Config.Metadata[IdentityKey]; identity == "" {
			return errForeignStream
		}
		if cfg.Metadata == nil {
			return nil
		}
		return leases.Purge(ctx, identityCandidate)
	})
	return identity, err
}

// errForeignStream says that LIFECYCLE was made by something else.
var errForeignStream = fmt.Errorf("stream %s has no %s: something else has made it", Lifecycle, IdentityKey)

func agreeOnIdentity(ctx context.Context, leases jetstream.KeyValue) (string, error) {
	fresh := make([]byte, 16)
	if _, err := rand.Read(fresh); err != nil {
		return "", fmt.Errorf("make the stream's identity: %w", err)
	}
	candidate := hex.EncodeToString(fresh)
	_, err := leases.Create(ctx, identityCandidate, []byte(candidate))
	if err == nil {
		return candidate, nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return "", fmt.Errorf("propose the stream's identity: %w", err)
	}
	entry, err := leases.Get(ctx, identityCandidate)
	if err != nil {
		return "", fmt.Errorf("read the proposed identity: %w", err)
	}
	return string(entry.Value()), nil
}

// EnsureSubmit creates or updates SUBMIT_<principal>, where that principal's
// account may publish under submit.<principal>.
func EnsureSubmit(ctx context.Context, js jetstream.JetStream, principal string, replicas int) error {
	if principal == "" || strings.ContainsAny(principal, ".*> \t\r\n/\\") {
		return fmt.Errorf("principal %q is not one token of a subject", principal)
	}
	return EnsureStream(ctx, js, submitConfig(principal, replicas))
}

// submitConfig allows no schedules, rollups, counters or times to live: what
// those headers ask for is refused.
func submitConfig(principal string, replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:       submitPrefix + principal,
		Subjects:   []string{"submit." + principal + ".>"},
		Retention:  jetstream.WorkQueuePolicy,
		Discard:    jetstream.DiscardNew,
		MaxBytes:   submitBytes,
		MaxMsgSize: MaxEvent,
		Duplicates: DuplicateWindow,
		Storage:    jetstream.FileStorage,
		Replicas:   max(replicas, 1),
	}
}

func lifecycleConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        Lifecycle,
		Description: "claims, results and facts",
		Subjects:    []string{"claims.*.*.*.*.*", "results.*.*.*.*.*", "lifecycle.*.*.*.*.*"},
		SubjectTransform: &jetstream.SubjectTransformConfig{
			Source: "*.*.*.*.*.*",
			Destination: fmt.Sprintf("{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}.{{wildcard(4)}}.{{wildcard(5)}}.{{partition(%d,6)}}",
				Partitions),
		},
		Storage:     jetstream.FileStorage,
		Replicas:    replicas,
		MaxMsgSize:  MaxEvent,
		Duplicates:  DuplicateWindow,
		AllowDirect: true,
		DenyDelete:  true,
	}
}

func snapshotsConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              Snapshots,
		Description:       "folds as they were, so that older events may go",
		Subjects:          []string{"snapshots.*.*.*"},
		MaxMsgsPerSubject: 1,
		Storage:           jetstream.FileStorage,
		Replicas:          replicas,
		MaxMsgSize:        MaxEvent,
		Duplicates:        DuplicateWindow,
		AllowDirect:       true,
	}
}

// logsConfig drops the oldest, of whatever run: a log is looked at soon, or not at all.
func logsConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        Logs,
		Description: "what the steps of pipelines printed",
		Subjects:    []string{"logs.*.*.*"},
		MaxAge:      LogsAge,
		MaxBytes:    logsBytes,
		Discard:     jetstream.DiscardOld,
		Storage:     jetstream.FileStorage,
		Replicas:    replicas,
		MaxMsgSize:  MaxEvent,
		Duplicates:  DuplicateWindow,
		AllowDirect: true,
	}
}

// cacheConfig drops the oldest: what it loses costs a builder its time.
func cacheConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              Cache,
		Description:       "what the steps of pipelines left, for builders that share no folder",
		Subjects:          []string{"cache.*.*.entry.*.*", "cache.*.*.blob.*.*"},
		MaxMsgsPerSubject: 1,
		MaxMsgs:           cacheMessages,
		MaxAge:            cacheAge,
		MaxBytes:          cacheBytes,
		Discard:           jetstream.DiscardOld,
		Storage:           jetstream.FileStorage,
		Replicas:          replicas,
		MaxMsgSize:        MaxEvent,
		Duplicates:        DuplicateWindow,
		AllowDirect:       true,
	}
}

func timersConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              Timers,
		Description:       "deadlines, pending and fired",
		Subjects:          []string{"timers.set.>", "timers.fired.>"},
		Retention:         jetstream.WorkQueuePolicy, // not interest: a setting has no consumer
		AllowMsgSchedules: true,
		AllowRollup:       true,
		Storage:           jetstream.FileStorage,
		Replicas:          replicas,
		MaxMsgSize:        MaxEvent,
		Duplicates:        DuplicateWindow,
	}
}

func deadLetterConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        DeadLetter,
		Description: "what failed for good, with the reason",
		Subjects:    []string{"deadletter.>"},
		Storage:     jetstream.FileStorage,
		Replicas:    replicas,
		MaxMsgSize:  MaxEvent + headroom, // a whole event and the reason
		Duplicates:  DuplicateWindow,
		AllowDirect: true,
	}
}

// ensureLeases has the bucket replicated as often as the streams.
func ensureLeases(ctx context.Context, js jetstream.JetStream, replicas int) (jetstream.KeyValue, error) {
	want := jetstream.KeyValueConfig{Bucket: Leases, History: 1, Storage: jetstream.FileStorage, Replicas: replicas}
	kv, err := EnsureBucket(ctx, js, want)
	if err != nil {
		return nil, err
	}
	err = insist(ctx, func(ctx context.Context) error {
		info, err := look(ctx, js, "KV_"+Leases)
		if err != nil || info.Config.Replicas == replicas {
			return err
		}
		_, err = js.UpdateKeyValue(ctx, want)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("update bucket %s: %w", Leases, err)
	}
	return kv, nil
}

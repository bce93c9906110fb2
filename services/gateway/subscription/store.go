package subscription

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
)

// Bucket is the KV bucket of the subscriptions: what was asked for under "sub.<id>", how far it has come under
// "state.<id>". The first is written by whoever answers a request, the second by the one gateway that delivers.
const Bucket = "SUBSCRIPTIONS"

const (
	recordPrefix = "sub."
	statePrefix  = "state."
)

// record is a subscription as it is kept.
type record struct {
	Spec       Subscription `json:"spec"`
	Secret     string       `json:"signing,omitempty"` // generated; shown once, at creation
	Generation uint64       `json:"generation"`        // counts the changes, from 1
	Begin      uint64       `json:"begin"`             // sequence
	Principal  string       `json:"principal"`         // whose it is
	Created    time.Time    `json:"created"`
	Changed    time.Time    `json:"changed"`
	Again      []resending  `json:"again,omitempty"` // the latest facts to be delivered after all, in the order in which that was asked for
}

// resending is a fact that was given up, and is to be delivered after all.
type resending struct {
	Place    uint64 `json:"p"` // grows by one from one to the next
	Number   uint64 `json:"n"` // the same again is the same
	Sequence uint64 `json:"s"`
}

// The states of a subscription.
const (
	Pending  = "pending"  // the sink was not reached yet
	Refused  = "refused"  // the sink does not agree; it is asked again, ever more rarely
	Active   = "active"   // facts are delivered
	Disabled = "disabled" // the sink has said that it is gone (410), or the consumer is; PUT begins again
)

// state is how far a subscription has come. Every fact up to Read is settled (delivered, dead-lettered, or not wanted)
// but for those in Open; what comes behind Read has not been looked at.
type state struct {
	Generation uint64      `json:"generation"` // of the record that it was written under
	State      string      `json:"state"`
	Reason     string      `json:"reason,omitempty"` // of the state
	Sink       string      `json:"sink,omitempty"`   // that agreed
	Rate       int         `json:"rate,omitempty"`   // that it allows a minute
	Read       uint64      `json:"read"`
	Open       []unsettled `json:"open,omitempty"`
	Again      uint64      `json:"again,omitempty"` // place up to which what is to be delivered after all was taken up

	Sequence     uint64    `json:"sequence,omitempty"` // delivered last
	Delivered    uint64    `json:"delivered,omitempty"`
	Retried      uint64    `json:"retried,omitempty"`
	DeadLettered uint64    `json:"deadlettered,omitempty"`
	Unjudged     uint64    `json:"unjudged,omitempty"` // by a filter, because of an error
	LastError    string    `json:"lasterror,omitempty"`
	LastErrorAt  time.Time `json:"lasterrorat,omitzero"`
	Lag          uint64    `json:"lag,omitempty"`
	Waiting      int       `json:"waiting,omitempty"`
	At           time.Time `json:"at,omitzero"`
}

// unsettled is a fact whose delivery is under way.
type unsettled struct {
	Sequence uint64    `json:"s"`
	Tries    int       `json:"n,omitempty"`
	Since    time.Time `json:"t,omitzero"` // the first try
}

// store is the bucket.
type store struct {
	kv jetstream.KeyValue
	js jetstream.JetStream
}

func openStore(ctx context.Context, js jetstream.JetStream, replicas int) (store, error) {
	kv, err := natsd.EnsureBucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: Bucket, Description: "subscriptions, and how far each has come", History: 1, Storage: jetstream.FileStorage, Replicas: replicas,
	})
	if err != nil {
		return store{}, err
	}
	return store{kv, js}, nil
}

// record reads a subscription and the revision that a change of it has to name.
func (s store) record(ctx context.Context, id string) (record, uint64, error) {
	var r record
	revision, err := s.get(ctx, recordPrefix+id, &r)
	return r, revision, err
}

func (s store) state(ctx context.Context, id string) (state, uint64, error) {
	var st state
	revision, err := s.get(ctx, statePrefix+id, &st)
	return st, revision, err
}

func (s store) get(ctx context.Context, key string, into any) (uint64, error) {
	if _, id, _ := strings.Cut(key, "."); !validID(id) {
		return 0, ErrNotFound
	}
	entry, err := natsd.Latest(ctx, s.js, Bucket, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, ErrNotFound
	}
	if err != nil {
		return 0, fmt.Errorf("read subscription: %w", err)
	}
	if err := json.Unmarshal(entry.Value, into); err != nil {
		return 0, fmt.Errorf("subscription %s is unreadable: %w", key, err)
	}
	return entry.Revision, nil
}

// put writes a value over the given revision, 0 for a new one. [ErrConflict] says that it is no longer the latest.
func (s store) put(ctx context.Context, key string, value any, revision uint64) (uint64, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return 0, fmt.Errorf("write subscription: %w", err)
	}
	if revision == 0 {
		revision, err = s.kv.Create(ctx, key, text)
	} else {
		revision, err = s.kv.Update(ctx, key, text, revision)
	}
	if natsd.Overtaken(err) {
		return 0, ErrConflict
	}
	if err != nil {
		return 0, fmt.Errorf("write subscription: %w", err)
	}
	return revision, nil
}

// remove takes a subscription away, then what is known of its progress.
func (s store) remove(ctx context.Context, id string, revision uint64) error {
	err := s.kv.Purge(ctx, recordPrefix+id, jetstream.LastRevision(revision))
	if natsd.Overtaken(err) {
		return ErrConflict
	}
	if err != nil {
		return fmt.Errorf("remove subscription: %w", err)
	}
	if err := s.kv.Purge(ctx, statePrefix+id); err != nil {
		return fmt.Errorf("remove subscription: %w", err)
	}
	return nil
}

// all reads every subscription and its state.
func (s store) all(ctx context.Context) (records map[string]record, states map[string]state, err error) {
	w, err := s.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, nil, fmt.Errorf("read subscriptions: %w", err)
	}
	defer func() { _ = w.Stop() }()
	records, states = map[string]record{}, map[string]state{}
	for {
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("read subscriptions: %w", ctx.Err())
		case entry, ok := <-w.Updates():
			if !ok {
				return nil, nil, errors.New("read subscriptions: the connection was lost")
			}
			if entry == nil {
				return records, states, nil
			}
			if id, ok := strings.CutPrefix(entry.Key(), recordPrefix); ok {
				var r record
				if err := json.Unmarshal(entry.Value(), &r); err != nil {
					return nil, nil, fmt.Errorf("subscription %s is unreadable: %w", id, err)
				}
				records[id] = r
			} else if id, ok := strings.CutPrefix(entry.Key(), statePrefix); ok {
				var st state
				if err := json.Unmarshal(entry.Value(), &st); err != nil {
					return nil, nil, fmt.Errorf("state of subscription %s is unreadable: %w", id, err)
				}
				states[id] = st
			}
		}
	}
}

// validID keeps what is no id away from keys.
func validID(id string) bool {
	return id != "" && len(id) <= 64 && strings.IndexFunc(id, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }) < 0
}

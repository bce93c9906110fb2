package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/natsd"
)

// Bucket is the JetStream KV bucket of tokens: one key a name, hashes only.
const Bucket = "TOKENS"

// MostGrace bounds how long an old secret may stay good after a rotation.
const MostGrace = 30 * 24 * time.Hour

// Store holds the tokens of an installation. Its methods may be called from several goroutines.
type Store struct {
	kv     jetstream.KeyValue
	log    *zap.Logger
	now    func() time.Time
	synced chan struct{} // closed when all that was stored is known

	js      jetstream.JetStream
	looking sync.Mutex // held by who reads the bucket for a token that is not known
	looked  time.Time  // when that began last

	mu     sync.RWMutex
	byName map[string]held
	byID   map[string]string // id of a secret to the token's name
}

type held struct {
	record
	revision uint64
}

// Open opens the bucket, and makes it when it is not there. Nobody is authenticated before [Store.Run] has read it.
func Open(ctx context.Context, js jetstream.JetStream, replicas int, log *zap.Logger) (*Store, error) {
	kv, err := natsd.EnsureBucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: Bucket, Description: "tokens, hashed", History: 1, Storage: jetstream.FileStorage, Replicas: replicas,
	})
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = zap.NewNop()
	}
	return &Store{kv: kv, js: js, log: log, now: time.Now, synced: make(chan struct{}), byName: map[string]held{}, byID: map[string]string{}}, nil
}

// Run follows what is stored, whoever changes it, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	for pause := 100 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 5*time.Second) {
		if err := s.follow(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("following the tokens was interrupted; going on", zap.Error(err))
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

func (s *Store) follow(ctx context.Context) error {
	w, err := s.kv.WatchAll(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = w.Stop() }()
	// What follows the bucket is told nothing for some time when its server has died; a revocation has to be heard of all the same.
	reading := time.NewTicker(readEvery)
	defer reading.Stop()
	seen, complete := map[string]bool{}, false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-reading.C:
			if err := s.look(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("reading the tokens", zap.Error(err))
			}
		case entry, ok := <-w.Updates():
			switch {
			case !ok:
				return errors.New("the watch ended")
			case entry != nil:
				seen[entry.Key()] = true
				s.meet(natsd.Kept{Key: entry.Key(), Value: entry.Value(), Revision: entry.Revision(), Gone: entry.Operation() != jetstream.KeyValuePut})
			case !complete: // all that is stored was seen; what was not is gone
				complete = true
				s.keep(seen)
				s.sync()
			}
		}
	}
}

func (s *Store) sync() {
	select {
	case <-s.synced:
	default:
		close(s.synced)
	}
}

// Synced is closed when all that was stored is known.
func (s *Store) Synced() <-chan struct{} { return s.synced }

func (s *Store) meet(entry natsd.Kept) {
	var r record
	if !entry.Gone {
		if err := json.Unmarshal(entry.Value, &r); err != nil || r.Name != entry.Key {
			s.log.Error("a token that can not be read is not honoured", zap.String("token", entry.Key), zap.Error(err))
			r = record{}
		}
	}
	s.set(entry.Key, held{r, entry.Revision}, r.Name != "")
}

// set takes over what is stored under a name, unless something later is known.
func (s *Store) set(name string, h held, there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, known := s.byName[name]
	if known && old.revision > h.revision {
		return
	}
	s.forget(name)
	s.byName[name] = h // also what is gone, so that a late word of it does not bring it back
	if !there {
		return
	}
	s.byID[h.Current.ID] = name
	if h.Previous != nil {
		s.byID[h.Previous.ID] = name
	}
}

func (s *Store) keep(names map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, h := range s.byName {
		if !names[name] && h.Name != "" {
			s.forget(name)
		}
	}
}

func (s *Store) forget(name string) {
	old, known := s.byName[name]
	if !known {
		return
	}
	delete(s.byName, name)
	delete(s.byID, old.Current.ID)
	if old.Previous != nil {
		delete(s.byID, old.Previous.ID)
	}
}

// Authenticate says who has a token. What is known it answers from memory: what was changed elsewhere counts a moment later. A token
// that is not known is looked for in the bucket, at most every [lookEvery]: another gateway may have made it, and word of that comes
// late when a server of the bus has died.
func (s *Store) Authenticate(ctx context.Context, text string) (Identity, error) {
	id, secret, ok := cutToken(text)
	if !ok {
		return Identity{}, fmt.Errorf("%w: a token looks like %s…", ErrUnknownToken, tokenPrefix)
	}
	if !s.knows(id) {
		if err := s.look(ctx); err != nil {
			s.log.Warn("looking for a token that is not known", zap.Error(err))
		}
	}
	return s.identify(id, secret)
}

func (s *Store) knows(id string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, known := s.byID[id]
	return known
}

// readEvery is how often the bucket is read beside being followed.
const readEvery = 5 * time.Second

// lookEvery keeps strangers from having the bucket read with each of their requests.
const lookEvery = 200 * time.Millisecond

// look reads the bucket, unless another has begun to since it was called.
func (s *Store) look(ctx context.Context) error {
	called := time.Now()
	s.looking.Lock()
	defer s.looking.Unlock()
	if s.looked.After(called) {
		return nil
	}
	pause := time.NewTimer(time.Until(s.looked.Add(lookEvery)))
	defer pause.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-pause.C:
	}
	s.looked = time.Now()
	entries, err := natsd.ReadBucket(ctx, s.js, Bucket)
	for _, e := range entries {
		s.meet(e)
	}
	return err
}

func (s *Store) identify(id, secret string) (Identity, error) {
	s.mu.RLock()
	h := s.byName[s.byID[id]]
	s.mu.RUnlock()
	if h.Name == "" {
		return Identity{}, ErrUnknownToken
	}
	hash, now := h.Current, s.now()
	if hash.ID != id {
		if h.Previous == nil || h.OldUntil == nil || !now.Before(*h.OldUntil) {
			return Identity{}, fmt.Errorf("%w: it was replaced by a rotation", ErrExpired)
		}
		hash = *h.Previous
	}
	switch {
	case !hash.is(secret):
		return Identity{}, ErrUnknownToken
	case h.Expires != nil && !now.Before(*h.Expires):
		return Identity{}, ErrExpired
	}
	return Identity{Principal: h.Name, Scopes: h.Scopes}, nil
}

// New is a token that shall be made.
type New struct {
	Name    string
	Scopes  []Scope
	By      string    // principal who makes it
	Expires time.Time // zero: never
}

// Create makes a token and returns its text, which is kept nowhere. The error is [ErrExists] when the name is taken.
func (s *Store) Create(ctx context.Context, n New) (text string, t Token, err error) {
	if err := CheckName(n.Name); err != nil {
		return "", Token{}, err
	}
	if len(n.Scopes) == 0 {
		return "", Token{}, errors.New("a token without a scope could do nothing")
	}
	now := s.now().UTC()
	r := record{Token: Token{Name: n.Name, Scopes: n.Scopes, Created: now, By: n.By}}
	if !n.Expires.IsZero() {
		if !now.Before(n.Expires) {
			return "", Token{}, fmt.Errorf("the token would have expired at %s already", n.Expires.UTC().Format(time.RFC3339))
		}
		at := n.Expires.UTC()
		r.Expires = &at
	}
	text, r.Current = newSecret()
	value, err := json.Marshal(r)
	if err != nil {
		return "", Token{}, err
	}
	var revision uint64
	switch last, gone := natsd.Latest(ctx, s.js, Bucket, n.Name); {
	case gone == nil:
		err = jetstream.ErrKeyExists
	case errors.Is(gone, jetstream.ErrKeyNotFound): // the bucket's Create would ask any of its copies whether one that was revoked is gone
		revision, err = s.kv.Update(ctx, n.Name, value, last.Revision)
	default:
		err = gone
	}
	if natsd.Overtaken(err) {
		return "", Token{}, fmt.Errorf("%w: %s", ErrExists, n.Name)
	}
	if err != nil {
		return "", Token{}, fmt.Errorf("store the token: %w", err)
	}
	s.set(n.Name, held{r, revision}, true)
	return text, r.Token, nil
}

// Rotate gives a token another secret; the one that it had stays good for the grace.
func (s *Store) Rotate(ctx context.Context, name string, grace time.Duration) (text string, t Token, err error) {
	if grace < 0 || grace > MostGrace {
		return "", Token{}, fmt.Errorf("the grace has to be 0 to %s", MostGrace)
	}
	r, revision, err := s.stored(ctx, name)
	if err != nil {
		return "", Token{}, err
	}
	now := s.now().UTC()
	until, before := now.Add(grace), r.Current
	r.Rotated, r.OldUntil, r.Previous = &now, nil, nil
	if grace > 0 {
		r.OldUntil, r.Previous = &until, &before
	}
	text, r.Current = newSecret()
	value, err := json.Marshal(r)
	if err != nil {
		return "", Token{}, err
	}
	if revision, err = s.kv.Update(ctx, name, value, revision); err != nil {
		return "", Token{}, fmt.Errorf("store the token: %w", err)
	}
	s.set(name, held{r, revision}, true)
	return text, r.Token, nil
}

// Revoke ends a token at once.
func (s *Store) Revoke(ctx context.Context, name string) error {
	_, revision, err := s.stored(ctx, name)
	if err != nil {
		return err
	}
	if err := s.kv.Delete(ctx, name, jetstream.LastRevision(revision)); err != nil {
		return fmt.Errorf("revoke %s: %w", name, err)
	}
	s.set(name, held{revision: revision + 1}, false)
	return nil
}

// Has reports whether a token of that name is stored.
func (s *Store) Has(ctx context.Context, name string) (bool, error) {
	_, _, err := s.stored(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (s *Store) stored(ctx context.Context, name string) (record, uint64, error) {
	if err := CheckName(name); err != nil {
		return record{}, 0, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	entry, err := natsd.Latest(ctx, s.js, Bucket, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return record{}, 0, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return record{}, 0, fmt.Errorf("read the token %s: %w", name, err)
	}
	var r record
	if err := json.Unmarshal(entry.Value, &r); err != nil {
		return record{}, 0, fmt.Errorf("read the token %s: %w", name, err)
	}
	return r, entry.Revision, nil
}

// List is every token, by name.
func (s *Store) List() []Token {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]Token, 0, len(s.byName))
	for _, h := range s.byName {
		if h.Name != "" {
			all = append(all, h.Token)
		}
	}
	slices.SortFunc(all, func(a, b Token) int { return strings.Compare(a.Name, b.Name) })
	return all
}

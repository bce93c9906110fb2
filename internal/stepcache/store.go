package stepcache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

const (
	chunkBytes = 256 << 10
	// MostBytes is how much of a repository is kept, before compression, where its chunks are full ones; a smaller blob counts as one. Of one
	// blob the half of it is kept.
	MostBytes = 512 << 20
	// mostEntries is how many of a repository's entries are kept.
	mostEntries = 20_000
	mostEntry   = 512 << 10
)

var (
	errTooLarge = fmt.Errorf("it is larger than %d bytes", MostBytes/2)
	errAnother  = errors.New("it is not what its digest says")
	errNotWhole = errors.New("it is not there as a whole")
)

// Store is what steps left, of all repositories. Its methods may be called from several goroutines.
type Store struct {
	js   jetstream.JetStream
	most int64

	mu     sync.Mutex
	stream jetstream.Stream // once it was found
}

// New is the store on a bus.
func New(js jetstream.JetStream) *Store { return &Store{js: js, most: MostBytes} }

// Repository is what the steps of one repository of a project left.
func (s *Store) Repository(project, url string) *Repository {
	sum := sha256.Sum256([]byte(url))
	return &Repository{s, "cache." + events.EscapeKey(project) + "." + hex.EncodeToString(sum[:10])}
}

func (s *Store) open(ctx context.Context) (jetstream.Stream, error) {
	s.mu.Lock()
	stream := s.stream
	s.mu.Unlock()
	if stream != nil {
		return stream, nil
	}
	stream, err := s.js.Stream(ctx, natsd.Cache) // several may ask at once, each for as long as it will wait
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream = stream
	return stream, nil
}

// Repository may be used by several goroutines.
type Repository struct {
	store  *Store
	prefix string
}

var hexForm = regexp.MustCompile(`^[0-9a-f]{8,128}$`)

func (r *Repository) entrySubject(tree, key string) (string, error) {
	if !hexForm.MatchString(tree) || !hexForm.MatchString(key) {
		return "", fmt.Errorf("tree %q and key %q are not both hexadecimal", tree, key)
	}
	return r.prefix + ".entry." + tree + "." + key, nil
}

func (r *Repository) chunkSubject(digest string, n int64) string {
	return r.prefix + ".blob." + digest + "." + strconv.FormatInt(n, 10)
}

// last is what a subject says; nil where it says nothing.
func (r *Repository) last(ctx context.Context, subject string) ([]byte, error) {
	stream, err := r.store.open(ctx)
	if err != nil {
		return nil, err
	}
	m, err := stream.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}

// Entry is what was put under a key of a tree; nil where nothing was.
func (r *Repository) Entry(ctx context.Context, tree, key string) ([]byte, error) {
	subject, err := r.entrySubject(tree, key)
	if err != nil {
		return nil, err
	}
	return r.last(ctx, subject)
}

// PutEntry puts what an earlier one of the same tree and key said in its place, and makes room for it and the blobs that were put before.
func (r *Repository) PutEntry(ctx context.Context, tree, key string, entry []byte) error {
	subject, err := r.entrySubject(tree, key)
	if err != nil {
		return err
	}
	if len(entry) > mostEntry {
		return fmt.Errorf("its entry has %d bytes, more than %d", len(entry), mostEntry)
	}
	if _, err := r.store.js.Publish(ctx, subject, entry); err != nil {
		return err
	}
	if err := r.trim(ctx, r.prefix+".blob.>", uint64(r.store.most/chunkBytes)); err != nil {
		return err
	}
	return r.trim(ctx, r.prefix+".entry.>", mostEntries)
}

// Blob writes what has a digest, the SHA-256 in hexadecimal. It is an error when that is not there, or is not what it should be: what was
// written then is nothing.
func (r *Repository) Blob(ctx context.Context, digest string, size int64, to io.Writer) error {
	if !hexForm.MatchString(digest) || size < 0 || size > r.store.most/2 {
		return fmt.Errorf("no blob has the digest %q and %d bytes", digest, size)
	}
	sum := sha256.New()
	to = io.MultiWriter(to, sum)
	for n := int64(0); size > 0; n++ {
		packed, err := r.last(ctx, r.chunkSubject(digest, n))
		if err != nil {
			return err
		}
		if length, err := s2.DecodedLen(packed); err != nil || int64(length) != min(size, chunkBytes) {
			return errNotWhole
		}
		chunk, err := s2.Decode(nil, packed)
		if err != nil {
			return errNotWhole
		}
		if _, err := to.Write(chunk); err != nil {
			return err
		}
		size -= int64(len(chunk))
	}
	if hex.EncodeToString(sum.Sum(nil)) != digest {
		return errNotWhole
	}
	return nil
}

// PutBlob puts what has a digest, also where it is already: something of it may be gone. It is an error when it is something else. Room for
// it is made by the entry that names it.
func (r *Repository) PutBlob(ctx context.Context, digest string, from io.Reader) error {
	if !hexForm.MatchString(digest) {
		return fmt.Errorf("%q is no digest", digest)
	}
	chunk, sum := make([]byte, chunkBytes), sha256.New()
	for n := int64(0); ; n++ {
		length, err := io.ReadFull(from, chunk)
		if length > 0 {
			if (n+1)*chunkBytes > r.store.most/2 {
				return errTooLarge
			}
			_, _ = sum.Write(chunk[:length])
			if _, err := r.store.js.Publish(ctx, r.chunkSubject(digest, n), pack(chunk[:length])); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			if hex.EncodeToString(sum.Sum(nil)) != digest {
				return errAnother
			}
			return nil
		case err != nil:
			return err
		}
	}
}

func pack(chunk []byte) []byte { return s2.Encode(nil, chunk) }

// trim leaves the newest of what a repository has.
func (r *Repository) trim(ctx context.Context, subjects string, messages uint64) error {
	stream, err := r.store.open(ctx)
	if err != nil {
		return err
	}
	return stream.Purge(ctx, jetstream.WithPurgeSubject(subjects), jetstream.WithPurgeKeep(messages))
}

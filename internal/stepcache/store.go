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
	"sync/atomic"

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
	// errNone is [errors.ErrUnsupported]: an installation may do without.
	errNone = fmt.Errorf("there is no stream %s: %w", natsd.Cache, errors.ErrUnsupported)
)

// asked is how many chunks one run asks for at once.
const asked = 8

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
	return &Repository{store: s, prefix: "cache." + events.EscapeKey(project) + "." + hex.EncodeToString(sum[:10]), asking: make(chan struct{}, asked)}
}

func (s *Store) open(ctx context.Context) (jetstream.Stream, error) {
	s.mu.Lock()
	stream := s.stream
	s.mu.Unlock()
	if stream != nil {
		return stream, nil
	}
	stream, err := s.js.Stream(ctx, natsd.Cache) // several may ask at once, each for as long as it will wait
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, errNone
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream = stream
	return stream, nil
}

// Repository may be used by several goroutines. Where the bus has no store all that it is asked for is [errors.ErrUnsupported].
type Repository struct {
	store  *Store
	prefix string
	asking chan struct{} // holds one for each chunk that is on its way here

	chunks, entries atomic.Int64 // put since it was trimmed
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

// PutEntry puts what an earlier one of the same tree and key said in its place. Room for it is made by [Repository.Trim].
func (r *Repository) PutEntry(ctx context.Context, tree, key string, entry []byte) error {
	subject, err := r.entrySubject(tree, key)
	if err != nil {
		return err
	}
	if len(entry) > mostEntry {
		return fmt.Errorf("its entry has %d bytes, more than %d", len(entry), mostEntry)
	}
	r.entries.Add(1)
	return r.put(ctx, subject, entry)
}

// put looks first whether there is a stream: a message to nobody is sent three times.
func (r *Repository) put(ctx context.Context, subject string, content []byte) error {
	if _, err := r.store.open(ctx); err != nil {
		return err
	}
	_, err := r.store.js.Publish(ctx, subject, content)
	return err
}

// Blob writes what has a digest, the SHA-256 in hexadecimal. It is an error when that is not there, or is not what it should be: what was
// written then is nothing.
func (r *Repository) Blob(ctx context.Context, digest string, size int64, to io.Writer) error {
	if !hexForm.MatchString(digest) || size < 0 || size > r.store.most/2 {
		return fmt.Errorf("no blob has the digest %q and %d bytes", digest, size)
	}
	ctx, cancel := context.WithCancel(ctx)
	var coming sync.WaitGroup
	defer coming.Wait()
	defer cancel()
	chunks := make([]chan chunk, (size+chunkBytes-1)/chunkBytes)
	ask := func(n int) {
		if n >= len(chunks) {
			return
		}
		chunks[n] = make(chan chunk, 1)
		coming.Go(func() {
			packed, err := r.chunk(ctx, digest, int64(n))
			chunks[n] <- chunk{packed, err}
		})
	}
	for n := range asked {
		ask(n)
	}
	sum := sha256.New()
	to = io.MultiWriter(to, sum)
	for n := range chunks {
		next := <-chunks[n]
		if next.err != nil {
			return next.err
		}
		ask(n + asked)
		if length, err := s2.DecodedLen(next.packed); err != nil || int64(length) != min(size, chunkBytes) {
			return errNotWhole
		}
		content, err := s2.Decode(nil, next.packed)
		if err != nil {
			return errNotWhole
		}
		if _, err := to.Write(content); err != nil {
			return err
		}
		size -= int64(len(content))
	}
	if hex.EncodeToString(sum.Sum(nil)) != digest {
		return errNotWhole
	}
	return nil
}

// chunk is what the bus said of one; nothing where it has none.
type chunk struct {
	packed []byte
	err    error
}

func (r *Repository) chunk(ctx context.Context, digest string, n int64) ([]byte, error) {
	select {
	case r.asking <- struct{}{}:
		defer func() { <-r.asking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return r.last(ctx, r.chunkSubject(digest, n))
}

// PutBlob puts what has a digest, also where it is already: something of it may be gone. It is an error when it is something else. Room for
// it is made by [Repository.Trim], and whenever half of what a repository may have was put.
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
			if r.chunks.Load() >= r.store.most/chunkBytes/2 {
				if err := r.trimChunks(ctx); err != nil {
					return err
				}
			}
			r.chunks.Add(1)
			if err := r.put(ctx, r.chunkSubject(digest, n), pack(chunk[:length])); err != nil {
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

// Trim leaves the newest of what a repository has, where something was put by this since it was trimmed last; whether the entries that name
// it came to be put or not.
func (r *Repository) Trim(ctx context.Context) error {
	var wrong error
	if r.chunks.Load() > 0 {
		wrong = r.trimChunks(ctx)
	}
	if r.entries.Swap(0) > 0 {
		wrong = errors.Join(wrong, r.purge(ctx, r.prefix+".entry.>", mostEntries))
	}
	return wrong
}

func (r *Repository) trimChunks(ctx context.Context) error {
	r.chunks.Store(0)
	return r.purge(ctx, r.prefix+".blob.>", r.store.most/chunkBytes)
}

func (r *Repository) purge(ctx context.Context, subjects string, keep int64) error {
	stream, err := r.store.open(ctx)
	if err != nil {
		return err
	}
	return stream.Purge(ctx, jetstream.WithPurgeSubject(subjects), jetstream.WithPurgeKeep(uint64(keep)))
}

package stepcache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
)

func noise(seed byte, n int) (content []byte, digest string) {
	content = make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(content)
	sum := sha256.Sum256(content)
	return content, hex.EncodeToString(sum[:])
}

func TestBlobsAndEntries(t *testing.T) {
	t.Parallel()
	_, _, js := natsdtest.Start(t)
	r, other := New(js).Repository("shop", "api"), New(js).Repository("shop", "web")
	for i, n := range []int{0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 3*chunkBytes + 7} {
		content, digest := noise(byte(i), n)
		if err := r.PutBlob(t.Context(), digest, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := r.Blob(t.Context(), digest, int64(n), &got); err != nil || !bytes.Equal(got.Bytes(), content) {
			t.Errorf("%d bytes: %d back, %v", n, got.Len(), err)
		}
		for _, wrong := range []int64{int64(n) + 1, int64(n) - 1, -1, 1 << 40} {
			if err := r.Blob(t.Context(), digest, wrong, &got); err == nil {
				t.Errorf("%d bytes are taken for %d", n, wrong)
			}
		}
		if err := other.Blob(t.Context(), digest, int64(n), &got); n > 0 && !errors.Is(err, errNotWhole) {
			t.Errorf("another repository has it: %v", err)
		}
	}
	tree, key := "0123456789abcdef", "fedcba9876543210"
	if text, err := r.Entry(t.Context(), tree, key); text != nil || err != nil {
		t.Errorf("before it was put: %q, %v", text, err)
	}
	for _, text := range []string{"one", "two"} {
		if err := r.PutEntry(t.Context(), tree, key, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Entry(t.Context(), tree, key); string(got) != text || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	if text, err := other.Entry(t.Context(), tree, key); text != nil || err != nil {
		t.Errorf("another repository has it: %q, %v", text, err)
	}
	for _, wrong := range []string{"", "*", "a.b.c.d.e", ">", "../../../x"} {
		if err := r.PutEntry(t.Context(), wrong, key, nil); err == nil {
			t.Errorf("%q is a tree", wrong)
		}
		if _, err := r.Entry(t.Context(), tree, wrong); err == nil {
			t.Errorf("%q is a key", wrong)
		}
	}
}

func TestADamagedBlobIsNotTaken(t *testing.T) {
	t.Parallel()
	_, _, js := natsdtest.Start(t)
	r := New(js).Repository("shop", "api")
	content, digest := noise(1, 2*chunkBytes)
	foreign, _ := noise(2, chunkBytes)
	put := func() {
		if err := r.PutBlob(t.Context(), digest, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	damage := map[string]func() error{
		"another chunk":  func() error { _, err := js.Publish(t.Context(), r.chunkSubject(digest, 1), pack(foreign)); return err },
		"no compression": func() error { _, err := js.Publish(t.Context(), r.chunkSubject(digest, 0), foreign); return err },
		"a short chunk": func() error {
			_, err := js.Publish(t.Context(), r.chunkSubject(digest, 0), pack(foreign[1:]))
			return err
		},
		"a huge chunk": func() error {
			_, err := js.Publish(t.Context(), r.chunkSubject(digest, 0), []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0})
			return err
		},
		"a chunk is gone": func() error {
			stream, err := js.Stream(t.Context(), natsd.Cache)
			if err != nil {
				return err
			}
			m, err := stream.GetLastMsgForSubject(t.Context(), r.chunkSubject(digest, 0))
			if err != nil {
				return err
			}
			return stream.DeleteMsg(t.Context(), m.Sequence)
		},
	}
	for name, do := range damage {
		put()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if err := r.Blob(t.Context(), digest, int64(len(content)), &bytes.Buffer{}); !errors.Is(err, errNotWhole) {
			t.Errorf("%s: %v", name, err)
		}
	}
	put()
	if err := r.Blob(t.Context(), digest, int64(len(content)), &bytes.Buffer{}); err != nil {
		t.Errorf("put again: %v", err)
	}
}

func TestABlobIsWhatItsDigestSays(t *testing.T) {
	t.Parallel()
	_, _, js := natsdtest.Start(t)
	_, digest := noise(1, 10)
	another, _ := noise(2, 10)
	if err := New(js).Repository("shop", "api").PutBlob(t.Context(), digest, bytes.NewReader(another)); !errors.Is(err, errAnother) {
		t.Error(err)
	}
}

// watched is a bus that counts purges, and lets chunks come once so many were asked for.
type watched struct {
	jetstream.JetStream
	together int
	purged   atomic.Int64
	all      chan struct{}
	asked    atomic.Int64
}

func (b *watched) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	stream, err := b.JetStream.Stream(ctx, name)
	return &watchedStream{stream, b}, err
}

type watchedStream struct {
	jetstream.Stream
	bus *watched
}

func (s *watchedStream) Purge(ctx context.Context, o ...jetstream.StreamPurgeOpt) error {
	s.bus.purged.Add(1)
	return s.Stream.Purge(ctx, o...)
}

func (s *watchedStream) GetLastMsgForSubject(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	if s.bus.asked.Add(1) == int64(s.bus.together) {
		close(s.bus.all)
	}
	select {
	case <-s.bus.all:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.Stream.GetLastMsgForSubject(ctx, subject)
}

// A round trip a chunk, one after the other, would be most of the time.
func TestChunksAreOnTheirWayTogether(t *testing.T) {
	t.Parallel()
	_, _, js := natsdtest.Start(t)
	r := New(&watched{JetStream: js, together: asked, all: make(chan struct{})}).Repository("shop", "api")
	content, digest := noise(1, 3*asked*chunkBytes+1)
	if err := r.PutBlob(t.Context(), digest, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got bytes.Buffer
	if err := r.Blob(ctx, digest, int64(len(content)), &got); err != nil || !bytes.Equal(got.Bytes(), content) {
		t.Errorf("%d bytes of %d, %v", got.Len(), len(content), err)
	}
}

// What was put is trimmed once, and what was not is not.
func TestOnlyWhatWasPutIsTrimmed(t *testing.T) {
	t.Parallel()
	_, _, js := natsdtest.Start(t)
	bus := &watched{JetStream: js}
	r := New(bus).Repository("shop", "api")
	check := func(what string, want int64) {
		t.Helper()
		if err := r.Trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := bus.purged.Swap(0); got != want {
			t.Errorf("%s: %d purges, want %d", what, got, want)
		}
	}
	entry := func() {
		if err := r.PutEntry(t.Context(), "0123456789abcdef", "fedcba9876543210", nil); err != nil {
			t.Fatal(err)
		}
	}
	check("nothing", 0)
	entry()
	entry()
	check("entries", 1)
	content, digest := noise(1, chunkBytes+1)
	if err := r.PutBlob(t.Context(), digest, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	entry()
	check("an entry and a blob", 2)
	check("nothing since", 0)
}

// An installation without the stream is told apart from one that does not answer, and nothing is sent into the void again and again.
func TestABusWithoutTheStream(t *testing.T) {
	t.Parallel()
	_, nc, js := natsdtest.Start(t)
	if err := js.DeleteStream(t.Context(), natsd.Cache); err != nil {
		t.Fatal(err)
	}
	r := New(js).Repository("shop", "api")
	content, digest := noise(1, 1)
	sub, err := nc.SubscribeSync("cache.>")
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Entry(t.Context(), "0123456789abcdef", "fedcba9876543210")
	for what, err := range map[string]error{
		"an entry":       err,
		"a blob":         r.Blob(t.Context(), digest, 1, &bytes.Buffer{}),
		"to put a blob":  r.PutBlob(t.Context(), digest, bytes.NewReader(content)),
		"to put another": r.PutEntry(t.Context(), "0123456789abcdef", "fedcba9876543210", nil),
		"to trim":        r.Trim(t.Context()),
	} {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, err := sub.Pending(); n != 0 || err != nil {
		t.Errorf("%d messages were sent, %v", n, err)
	}
}

// silent is a bus that answers nothing.
type silent struct {
	jetstream.JetStream
	asked chan struct{}
}

func (b silent) Stream(ctx context.Context, _ string) (jetstream.Stream, error) {
	b.asked <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// Who waits for the bus for a moment only does not wait for as long as another does.
func TestNobodyWaitsForAnothersPatience(t *testing.T) {
	t.Parallel()
	bus := silent{asked: make(chan struct{}, 2)}
	r := New(bus).Repository("shop", "api")
	long, end := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	waiting.Go(func() { _, _ = r.Entry(long, "0123456789abcdef", "fedcba9876543210") })
	<-bus.asked
	short, over := context.WithTimeout(t.Context(), 10*time.Second)
	defer over()
	waiting.Go(func() { _, _ = r.Entry(short, "0123456789abcdef", "fedcba9876543210") })
	select {
	case <-bus.asked:
	case <-short.Done():
		t.Error("the second waits for the first")
	}
	over()
	end()
	waiting.Wait()
}

// What one repository has is bounded, and takes no room from another's.
func TestARepositoryIsBounded(t *testing.T) {
	t.Parallel()
	_, _, js := natsdtest.Start(t)
	s := New(js)
	s.most = 8 * chunkBytes
	r, other := s.Repository("shop", "api"), s.Repository("shop", "web")
	content, digest := noise(0, chunkBytes)
	if err := other.PutBlob(t.Context(), digest, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	there := func(r *Repository, digest string) bool {
		return r.Blob(t.Context(), digest, chunkBytes, &bytes.Buffer{}) == nil
	}
	stream, err := js.Stream(t.Context(), natsd.Cache)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 12 { // and no entry that names them: its builder was too slow, or killed
		content, one := noise(byte(i+1), chunkBytes)
		if err := r.PutBlob(t.Context(), one, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 12 {
		content, one := noise(byte(i+13), chunkBytes)
		if err := r.PutBlob(t.Context(), one, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := info.State.Msgs; n > 1+12 {
			t.Errorf("meanwhile there are %d messages, want no more than half above the bound", n)
		}
	}
	if err := r.Trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	var kept []string
	for i := range 12 {
		if _, one := noise(byte(i+13), chunkBytes); there(r, one) {
			kept = append(kept, fmt.Sprint(i))
		}
	}
	if got := fmt.Sprint(kept); got != "[4 5 6 7 8 9 10 11]" {
		t.Errorf("kept %s, want the newest eight", got)
	}
	if !there(other, digest) {
		t.Error("another repository's has gone")
	}
	large, digest := noise(99, 5*chunkBytes)
	if err := r.PutBlob(t.Context(), digest, bytes.NewReader(large)); !errors.Is(err, errTooLarge) {
		t.Errorf("more than the half of it: %v", err)
	}
}

// Package snapshot keeps folds as they were at a place of the stream, on the bus itself, so that what is before may be purged
// (docs/adr/0010-retention.md).
//
//	err := snapshot.Write(ctx, js, "plan", sequence, content)
//	kept, err := snapshot.Read(ctx, js, "plan")           // the latest first
//	content, err := kept[0].Content(ctx, js)
//
// Of each name the last two are kept, one in each of two generations: while one is written over, the other is whole. A
// snapshot is its chunks, one message each, and a head that names them; the head comes last.
package snapshot

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
)

// chunk is how many bytes of content a message holds.
const chunk = 256 << 10

var generations = []string{"a", "b"}

// Head is what is known of a snapshot beside its content.
type Head struct {
	Sequence uint64    `json:"sequence"` // of the stream; everything at or below it is in the snapshot
	Taken    time.Time `json:"taken"`
	Chunks   int       `json:"chunks"`
	Digest   string    `json:"digest"` // SHA-256 of all chunks, in hexadecimal

	name, generation string
	at               uint64 // sequence of the head's message in its own stream
}

func subject(name, generation, part string) string {
	return "snapshots." + name + "." + generation + "." + part
}

// Read lists the snapshots of a name, the latest first; none when none was ever written.
func Read(ctx context.Context, js jetstream.JetStream, name string) ([]Head, error) {
	heads, err := readHeads(ctx, js, name)
	return slices.DeleteFunc(heads, func(h Head) bool { return h.Sequence == 0 }), err
}

// ForgetBeyond has those forgotten that are of an end which the stream has lost: once it has grown beyond them again, they
// would be taken for what it says.
func ForgetBeyond(ctx context.Context, js jetstream.JetStream, name string, end uint64) error {
	heads, err := readHeads(ctx, js, name)
	if err != nil {
		return err
	}
	for _, h := range heads {
		if h.Sequence <= end {
			continue
		}
		forgotten := Head{name: name, generation: h.generation, at: h.at}
		if err := forgotten.put(ctx, js); err != nil {
			return err
		}
	}
	return nil
}

// readHeads lists all heads, also those that were forgotten, with the sequence 0.
func readHeads(ctx context.Context, js jetstream.JetStream, name string) ([]Head, error) {
	stream, err := js.Stream(ctx, natsd.Snapshots)
	if err != nil {
		return nil, fmt.Errorf("snapshots of %s: %w", name, err)
	}
	var heads []Head
	for _, g := range generations {
		m, err := stream.GetLastMsgForSubject(ctx, subject(name, g, "head"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("snapshots of %s: %w", name, err)
		}
		var h Head
		if err := json.Unmarshal(m.Data, &h); err != nil {
			return nil, fmt.Errorf("snapshots of %s: %w", name, err)
		}
		h.name, h.generation, h.at = name, g, m.Sequence
		heads = append(heads, h)
	}
	slices.SortFunc(heads, func(a, b Head) int { return cmp.Compare(b.Sequence, a.Sequence) })
	return heads, nil
}

// Content is what was written. The error says when it is not whole: another process may be writing over it.
func (h Head) Content(ctx context.Context, js jetstream.JetStream) ([]byte, error) {
	stream, err := js.Stream(ctx, natsd.Snapshots)
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	var packed []byte
	for n := range h.Chunks {
		m, err := stream.GetLastMsgForSubject(ctx, subject(h.name, h.generation, fmt.Sprint(n)))
		if err != nil {
			return nil, fmt.Errorf("snapshot of %s at %d, part %d: %w", h.name, h.Sequence, n, err)
		}
		_, _ = sum.Write(m.Data)
		packed = append(packed, m.Data...)
	}
	if hex.EncodeToString(sum.Sum(nil)) != h.Digest {
		return nil, fmt.Errorf("the snapshot of %s at %d is not whole", h.name, h.Sequence)
	}
	content, err := s2.Decode(nil, packed)
	if err != nil {
		return nil, fmt.Errorf("snapshot of %s at %d: %w", h.name, h.Sequence, err)
	}
	return content, nil
}

// Write keeps a snapshot in the place of the older one of the two. One that is not later than the latest changes nothing.
func Write(ctx context.Context, js jetstream.JetStream, name string, sequence uint64, content []byte) error {
	kept, err := readHeads(ctx, js, name)
	if err != nil {
		return err
	}
	if len(kept) > 0 && kept[0].Sequence >= sequence {
		return nil
	}
	h := Head{Sequence: sequence, Taken: time.Now().UTC(), name: name, generation: generations[0]}
	switch {
	case len(kept) == len(generations):
		h.generation, h.at = kept[1].generation, kept[1].at
	case len(kept) == 1 && kept[0].generation == generations[0]:
		h.generation = generations[1]
	}
	packed := s2.Encode(nil, content)
	sum := sha256.Sum256(packed)
	h.Digest = hex.EncodeToString(sum[:])
	for part := range slices.Chunk(packed, chunk) {
		if _, err := js.Publish(ctx, subject(name, h.generation, fmt.Sprint(h.Chunks)), part); err != nil {
			return fmt.Errorf("write the snapshot of %s: %w", name, err)
		}
		h.Chunks++
	}
	return h.put(ctx, js)
}

// put writes the head, unless another one was faster.
func (h Head) put(ctx context.Context, js jetstream.JetStream) error {
	body, err := json.Marshal(h)
	if err != nil {
		return err
	}
	m := &nats.Msg{Subject: subject(h.name, h.generation, "head"), Data: body}
	if _, err := js.PublishMsg(ctx, m, jetstream.WithExpectLastSequencePerSubject(h.at)); err != nil {
		return fmt.Errorf("write the snapshot of %s: %w", h.name, err)
	}
	return nil
}

package snapshot_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
	"github.com/lemnis/lemnis/internal/snapshot"
)

func bus(t *testing.T) jetstream.JetStream {
	t.Helper()
	_, _, js := natsdtest.Start(t)
	return js
}

func read(t *testing.T, js jetstream.JetStream) (sequences []uint64, heads []snapshot.Head) {
	t.Helper()
	heads, err := snapshot.Read(t.Context(), js, "plan")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range heads {
		sequences = append(sequences, h.Sequence)
	}
	return sequences, heads
}

func TestTheLastTwoAreKept(t *testing.T) {
	js, noise := bus(t), rand.NewChaCha8([32]byte{1})
	contents := map[uint64][]byte{}
	for i, sequence := range []uint64{5, 9, 9, 7, 12, 40} {
		content := make([]byte, []int{0, 10, 20, 30, 700_000, 300_000}[i]) // in several parts, then in fewer
		_, _ = noise.Read(content)
		if err := snapshot.Write(t.Context(), js, "plan", sequence, content); err != nil {
			t.Fatal(err)
		}
		if contents[sequence] == nil {
			contents[sequence] = content
		}
		if err := snapshot.Write(t.Context(), js, "develop", sequence, []byte("another's")); err != nil {
			t.Fatal(err)
		}
	}
	sequences, heads := read(t, js)
	if len(sequences) != 2 || sequences[0] != 40 || sequences[1] != 12 {
		t.Fatalf("kept %v, want 40 and 12", sequences)
	}
	for _, h := range heads {
		if got, err := h.Content(t.Context(), js); err != nil || !bytes.Equal(got, contents[h.Sequence]) {
			t.Errorf("at %d: %d bytes, %v", h.Sequence, len(got), err)
		}
	}
	// One of an end that is lost is forgotten, and its place is the next to be written.
	if err := snapshot.ForgetBeyond(t.Context(), js, "plan", 12); err != nil {
		t.Fatal(err)
	}
	if sequences, _ = read(t, js); len(sequences) != 1 || sequences[0] != 12 {
		t.Errorf("kept %v, want 12", sequences)
	}
	if err := snapshot.Write(t.Context(), js, "plan", 13, []byte("anew")); err != nil {
		t.Fatal(err)
	}
	if sequences, _ = read(t, js); len(sequences) != 2 || sequences[0] != 13 || sequences[1] != 12 {
		t.Errorf("kept %v, want 13 and 12", sequences)
	}
}

// A snapshot that is written over while it is read is found out.
func TestWhatIsNotWhole(t *testing.T) {
	js := bus(t)
	if err := snapshot.Write(t.Context(), js, "plan", 5, []byte("whole")); err != nil {
		t.Fatal(err)
	}
	_, heads := read(t, js)
	if _, err := js.Publish(t.Context(), "snapshots.plan.a.0", []byte("other")); err != nil {
		t.Fatal(err)
	}
	if _, err := heads[0].Content(t.Context(), js); err == nil || !strings.Contains(err.Error(), "not whole") {
		t.Errorf("%v", err)
	}
}

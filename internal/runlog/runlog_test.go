package runlog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
)

func bus(t *testing.T) (*Store, *natsd.Server) {
	t.Helper()
	server, _, js := natsdtest.Start(t)
	return New(js), server
}

// find waits until a log is there: what is printed is sent behind.
func find(t *testing.T, s *Store, run Run) Last {
	t.Helper()
	for t.Context().Err() == nil {
		last, err := s.Find(t.Context(), run)
		if err == nil {
			return last
		}
		if !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	t.Fatal(context.Cause(t.Context()))
	return Last{}
}

func read(t *testing.T, s *Store, run Run, follow bool, step, text string) string {
	t.Helper()
	var out bytes.Buffer
	f := NewFilter(&out, step, text)
	if err := errors.Join(s.Read(t.Context(), find(t, s, run), follow, f.Print), f.Close()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// What was printed is read again, in its order, and its digest is that of the text.
func TestLogsAreKept(t *testing.T) {
	s, _ := bus(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		run := Run{Project: "shop", Kind: Pipeline, Key: fmt.Sprintf("c.%d#1", n)}
		w := s.Write(t.Context(), run, 1)
		var whole strings.Builder
		of := map[string]*strings.Builder{"": {}, "compile": {}, "test": {}}
		for range rapid.IntRange(0, 40).Draw(rt, "prints") {
			step := rapid.SampledFrom([]string{"", "compile", "test"}).Draw(rt, "step")
			text := strings.Repeat(rapid.SampledFrom([]string{"a\n", "\x1b[31mred\x1b[0m ", "\xff", "line of a log\n"}).Draw(rt, "text"),
				rapid.SampledFrom([]int{1, 2, 100, 100_000}).Draw(rt, "times"))
			if err := w.Print(step, []byte(text)); err != nil {
				rt.Fatal(err)
			}
			whole.WriteString(text)
			of[step].WriteString(text)
		}
		kept := w.Close(true)
		if want := (Kept{Digest: digest(whole.String()), Size: int64(whole.Len())}); kept != want {
			rt.Fatalf("kept %+v, want %+v", kept, want)
		}
		last := find(t, s, run)
		if last.Kept == nil || *last.Kept != kept {
			rt.Fatalf("found %+v, want %+v", last.Kept, kept)
		}
		for _, follow := range []bool{false, true} {
			if got := read(t, s, run, follow, "", ""); got != whole.String() {
				rt.Fatalf("read %d bytes, follow %v, printed %d", len(got), follow, whole.Len())
			}
		}
		if got := read(t, s, run, false, "test", ""); got != of["test"].String() {
			rt.Fatalf("read %d bytes of one step, printed %d", len(got), of["test"].Len())
		}
	})
}

// However lines are cut into pieces, those that hold the text are found, and no others.
func TestSearch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOf(rapid.SampledFrom([]string{"FAIL: one", "ok", "", "FA", "x FAIL", "\x1b[31mFA\x1b[0mIL", "IL", "FAIL"})).Draw(t, "lines")
		text, want := strings.Join(lines, "\n"), ""
		for _, line := range lines {
			if strings.Contains(strings.NewReplacer("\x1b[31m", "", "\x1b[0m", "").Replace(line), "FAIL") {
				want += "test: " + line + "\n"
			}
		}
		var out bytes.Buffer
		f := NewFilter(&out, "", "FAIL")
		for rest := []byte(text); len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			if err := f.Print("test", rest[:n]); err != nil {
				t.Fatal(err)
			}
			_ = f.Print("lint", []byte("no line of this one ends, FAI"))
			rest = rest[n:]
		}
		if err := f.Close(); err != nil || out.String() != want {
			t.Fatalf("%v: %q, want %q, of %q", err, out.String(), want, text)
		}
	})
}

func TestSearchOfOneStep(t *testing.T) {
	var out bytes.Buffer
	f := NewFilter(&out, "test", "a")
	_, _, _ = f.Print("", []byte("a run\n")), f.Print("lint", []byte("a lint\n")), f.Print("test", []byte("a test\nb\n"+strings.Repeat("x", 2*longestLine)+"a"))
	if err := f.Close(); err != nil || !strings.HasPrefix(out.String(), "a test\nxxx") || !strings.HasSuffix(out.String(), "xa\n") {
		t.Errorf("%v: %.40q", err, out.String())
	}
}

// A log that is too long is cut off, and says so where it is, at its end, and to the one who writes it.
func TestCutOff(t *testing.T) {
	s, _ := bus(t)
	s.most = 1000
	run := Run{Project: "shop", Kind: Build, Key: "c1#1"}
	w := s.Write(t.Context(), run, 1)
	for range 30 {
		_ = w.Print("test", []byte(strings.Repeat("x", 100)))
	}
	kept := w.Close(true)
	got := read(t, s, run, false, "", "")
	if kept.Dropped != 2000 || kept.Reason == "" || kept.Digest != digest(got) || !strings.HasSuffix(got, "*** lemnis: "+kept.Reason+" ***\n") || !strings.HasPrefix(got, strings.Repeat("x", 1000)+"\n") {
		t.Errorf("%+v: %q", kept, got[min(len(got), 990):])
	}
	if last := find(t, s, run); last.Kept == nil || last.Kept.Dropped != 2000 {
		t.Errorf("found %+v", last.Kept)
	}
	if got := read(t, s, run, false, "test", ""); !strings.Contains(got, kept.Reason) {
		t.Error("who reads one step is not told")
	}
}

// A log whose beginning is gone says so; one that is gone as a whole, or never was, is not found.
func TestGone(t *testing.T) {
	s, _ := bus(t)
	run, other := Run{Project: "shop", Kind: Pipeline, Key: "c1#1"}, Run{Project: "shop", Kind: Pipeline, Key: "c1#2"}
	if _, err := s.Find(t.Context(), run); !errors.Is(err, ErrNotFound) {
		t.Errorf("a run that never was: %v", err)
	}
	for _, of := range []Run{run, other} {
		w := s.Write(t.Context(), of, 1)
		for i := range 20 {
			_ = w.Print("test", []byte(strings.Repeat(string(rune('a'+i)), chunkBytes)))
		}
		w.Close(true)
	}
	stream, err := s.js.Stream(t.Context(), natsd.Logs)
	if err != nil {
		t.Fatal(err)
	}
	last := find(t, s, run)
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject(run.subject()), jetstream.WithPurgeSequence(4)); err != nil {
		t.Fatal(err)
	}
	for _, follow := range []bool{false, true} {
		got := read(t, s, run, follow, "", "")
		if want := fmt.Sprintf("\n*** lemnis: the first %d bytes of the log are not kept any more ***\nddd", 3*chunkBytes); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "ttt") {
			t.Errorf("follow %v: %d bytes: %.90q", follow, len(got), got)
		}
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject(run.subject())); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(t.Context(), run); !errors.Is(err, ErrNotFound) {
		t.Errorf("a log that is gone: %v", err)
	}
	if err := s.Read(t.Context(), last, false, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("a log that went while it was looked for: %v", err)
	}
	if got := read(t, s, other, false, "", ""); len(got) != 20*chunkBytes {
		t.Errorf("another run's log has %d bytes", len(got))
	}
}

// A reader who follows gets what is printed while it is printed, and learns that another worker began anew. What the lost one still
// sends is passed over.
func TestFollow(t *testing.T) {
	s, _ := bus(t)
	run := Run{Project: "shop", Kind: Pipeline, Key: "c1#1"}
	lost := s.Write(t.Context(), run, 1)
	_ = lost.Print("test", []byte("first"))
	last := find(t, s, run) // it is there before it is closed
	from, to := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- s.Read(t.Context(), last, true, func(_ string, text []byte) error { _, err := to.Write(text); return err })
		_ = to.Close()
	}()
	expect := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(from, got); err != nil || string(got) != want {
			t.Fatalf("read %q, %v, want %q", got, err, want)
		}
	}
	expect("first")
	next := s.Write(t.Context(), run, 2)
	_ = next.Print("test", []byte("anew"))
	expect("\n*** lemnis: the worker was lost; another one begins anew ***\nanew")
	_ = lost.Print("test", []byte("too late"))
	if kept := lost.Close(false); kept.Size != int64(len("first"+"too late")) {
		t.Errorf("of the lost one %+v", kept)
	}
	_ = next.Print("test", []byte(" and more"))
	expect(" and more")
	next.Close(true)
	if rest, err := io.ReadAll(from); err != nil || len(rest) > 0 {
		t.Errorf("then %q, %v", rest, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := read(t, s, run, false, "", ""); got != "anew and more" {
		t.Errorf("afterwards %q", got)
	}
}

// Chunks that were sent again come late, or twice.
func TestOutOfOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		order := rapid.Permutation([]int{0, 1, 2, 3, 4, 5}).Draw(t, "order")
		order = append(order, rapid.SliceOf(rapid.IntRange(0, 5)).Draw(t, "again")...)
		var out bytes.Buffer
		r := &reader{attempt: 1, each: func(_ string, text []byte) error { _, err := out.Write(text); return err }}
		for _, n := range order {
			c := &chunk{}
			c.reset(1, int64(2*n))
			c.add("test", []byte{byte('a' + n), '\n'})
			if whole, err := r.meet(c.header, pack(c)); whole || err != nil {
				t.Fatal(whole, err)
			}
		}
		last := header{Attempt: 1, Offset: 12, End: &Kept{}}
		if whole, err := r.meet(last, pack(&chunk{})); !whole || err != nil || out.String() != "a\nb\nc\nd\ne\nf\n" {
			t.Fatalf("whole %v, %v: %q of %v", whole, err, out.String(), order)
		}
	})
}

// Without a bus nothing waits for ever, and it is said that the log is not whole.
func TestBusIsAway(t *testing.T) {
	s, server := bus(t)
	ctx, cancel := context.WithCancel(t.Context())
	w := s.Write(ctx, Run{Project: "shop", Kind: Pipeline, Key: "c1#1"}, 1)
	server.Stop()
	cancel() // of the run: or it would be tried for a while
	for range 2 * chunks {
		_ = w.Print("test", make([]byte, chunkBytes))
	}
	if kept := w.Close(true); kept.Dropped == 0 || kept.Digest != "" || !strings.Contains(kept.Reason, "could not be kept") {
		t.Errorf("%+v", kept)
	}
}

// A chunk is read from the bus: whatever stands there, nothing of it is taken for more than it is.
func FuzzMeet(f *testing.F) {
	f.Add([]byte(`{"attempt":1,"offset":0,"size":3,"parts":[{"bytes":3}]}`), []byte("\x03\x08abc"))
	f.Add([]byte(`{"attempt":1,"offset":0,"size":3,"parts":[{"bytes":-3},{"bytes":6}]}`), []byte("\x03\x08abc"))
	f.Fuzz(func(t *testing.T, head, packed []byte) {
		h, err := parse(string(head))
		if err != nil {
			return
		}
		r := &reader{attempt: h.Attempt, offset: h.Offset, each: func(string, []byte) error { return nil }}
		_, _ = r.meet(h, packed)
	})
}

// soonQuiet is a store whose readers soon ask why nothing comes, and its stream.
func soonQuiet(t *testing.T) (*Store, jetstream.Stream) {
	t.Helper()
	s, _ := bus(t)
	was := quiet
	t.Cleanup(func() { quiet = was })
	quiet = 100 * time.Millisecond
	stream, err := s.js.Stream(t.Context(), natsd.Logs)
	if err != nil {
		t.Fatal(err)
	}
	return s, stream
}

// A reader goes on where it was when the bus loses it, whether it follows or not; where what it was to read has gone, it says so.
func TestReaderIsLost(t *testing.T) {
	s, stream := soonQuiet(t)
	run := Run{Project: "shop", Kind: Pipeline, Key: "c1#1"}
	w := s.Write(t.Context(), run, 1)
	var want strings.Builder
	for n := range 3 * pullChunks {
		text := strings.Repeat(string(rune('A'+n)), chunkBytes)
		_ = w.Print("test", []byte(text))
		want.WriteString(text)
	}
	w.Close(true)
	last := find(t, s, run)
	lose := map[string]func(){
		"the connection": func() { _ = s.js.Conn().ForceReconnect() },
		"the consumer": func() {
			for c := range stream.ListConsumers(t.Context()).Info() {
				_ = stream.DeleteConsumer(t.Context(), c.Name)
			}
		},
	}
	for what, lose := range lose {
		for _, follow := range []bool{false, true} {
			var got strings.Builder
			pieces := 0
			err := s.Read(t.Context(), last, follow, func(_ string, text []byte) error {
				got.Write(text)
				if pieces++; pieces%20 == 5 {
					lose()
				}
				return nil
			})
			if err != nil || got.String() != want.String() {
				t.Errorf("%s was lost, follow %v: read %d of %d bytes, %v", what, follow, got.Len(), want.Len(), err)
			}
		}
	}
	pieces := 0
	err := s.Read(t.Context(), last, false, func(string, []byte) error {
		if pieces++; pieces > 1 {
			return nil
		}
		return stream.Purge(t.Context(), jetstream.WithPurgeSubject(run.subject()))
	})
	if !errors.Is(err, errWent) {
		t.Errorf("of a log that went while it was read: %d pieces, %v", pieces, err)
	}
}

// A consumer can live and hand out nothing, as one does that stands on a copy of the stream which does not move; here it is paused. Who
// follows gets the rest by another one.
func TestAFollowerThatIsGivenNothingReadsAnew(t *testing.T) {
	s, stream := soonQuiet(t)
	run := Run{Project: "shop", Kind: Pipeline, Key: "c1#1"}
	w := s.Write(t.Context(), run, 1)
	_ = w.Print("test", []byte("first"))
	last := find(t, s, run)
	var got strings.Builder
	err := s.Read(t.Context(), last, true, func(_ string, text []byte) error {
		if got.Write(text); got.String() != "first" {
			return nil
		}
		paused := 0
		for c := range stream.ListConsumers(t.Context()).Info() {
			if _, err := stream.PauseConsumer(t.Context(), c.Name, time.Now().Add(time.Hour)); err != nil {
				return err
			}
			paused++
		}
		if paused != 1 {
			return fmt.Errorf("%d readers", paused)
		}
		_ = w.Print("test", []byte(" and the rest"))
		w.Close(true)
		return nil
	})
	if err != nil || got.String() != "first and the rest" {
		t.Errorf("read %q, %v", got.String(), err)
	}
}

// A bus that takes nothing for too long loses the rest of a log; when it is back by the end, the log has an end, which says so.
func TestBusIsBack(t *testing.T) {
	s, _ := bus(t)
	defer func(was time.Duration) { patience = was }(patience)
	patience = 100 * time.Millisecond
	run := Run{Project: "shop", Kind: Pipeline, Key: "c1#1"}
	w := s.Write(t.Context(), run, 1)
	_ = w.Print("test", []byte("first\n"))
	find(t, s, run)
	stream, err := s.js.Stream(t.Context(), natsd.Logs)
	if err != nil {
		t.Fatal(err)
	}
	takes := stream.CachedInfo().Config
	refuses := takes
	refuses.MaxMsgSize = 10
	if _, err := s.js.UpdateStream(t.Context(), refuses); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_ = w.Print("test", make([]byte, chunkBytes))
	}
	<-w.lost
	_ = w.Print("test", []byte("too late"))
	if _, err := s.js.UpdateStream(t.Context(), takes); err != nil {
		t.Fatal(err)
	}
	const dropped = 3*chunkBytes + int64(len("too late"))
	kept := w.Close(true)
	if kept.Dropped != dropped || kept.Size != 6 || kept.Digest != "" || !strings.Contains(kept.Reason, "could not be kept") {
		t.Errorf("kept %+v", kept)
	}
	last := find(t, s, run)
	if last.Kept == nil || *last.Kept != kept {
		t.Fatalf("found %+v, want %+v", last.Kept, kept)
	}
	for _, follow := range []bool{false, true} {
		if got := read(t, s, run, follow, "test", ""); got != fmt.Sprintf("first\n\n*** lemnis: %d bytes of the log are missing here ***\n", 3*chunkBytes) {
			t.Errorf("follow %v: read %q", follow, got)
		}
	}
}

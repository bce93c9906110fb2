package runlog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	chunkBytes = 256 << 10
	chunkParts = 128
	chunks     = 8 // of a writer, in whatever state: what it holds in memory
	// hurry is how fast a chunk is full when compressing it would hold up the step: then it is not.
	hurry = 10 * time.Millisecond
	// liveEvery is how long a reader waits at the most, about, for what was printed.
	liveEvery = 100 * time.Millisecond
	ackWait   = 5 * time.Second // for one ack: it may be lost with a leader
)

// patience with a bus that does not take a chunk. A run is not held up for longer. It is a variable for tests.
var patience = 30 * time.Second

var errSilent = errors.New("the bus does not answer")

// Writer keeps the log of one attempt at a run. Its methods may be called from several goroutines.
type Writer struct {
	store   *Store
	subject string
	attempt uint64

	mu      sync.Mutex // of what follows
	current *chunk     // is being filled; nil: none
	size    int64      // of what was taken
	kept    Kept       // Dropped and Reason
	closed  bool

	free, full chan *chunk
	stop       chan struct{} // of flushing
	flushing   sync.WaitGroup
	sent       chan Kept // when all is sent
	lost       chan struct{}
	why        string // of lost; written before it is closed
}

// chunk is reused: it belongs to the writer, to the sender or to the bus, in turn.
type chunk struct {
	header
	raw, packed []byte
	begun       time.Time
	aged        bool // has been there for a tick
	ack         jetstream.PubAckFuture
	message     *nats.Msg
}

// Write begins the log of an attempt. The caller closes it.
func (s *Store) Write(ctx context.Context, run Run, attempt uint64) *Writer {
	w := &Writer{store: s, subject: run.subject(), attempt: attempt, free: make(chan *chunk, chunks), full: make(chan *chunk, chunks),
		stop: make(chan struct{}), sent: make(chan Kept, 1), lost: make(chan struct{})}
	for range chunks {
		w.free <- &chunk{}
	}
	w.flushing.Go(w.flush)
	go w.send(ctx)
	return w
}

// Print takes what a step printed; p is the caller's again afterwards. It waits when the bus is slow, and drops what the bus does not
// take for long, or what is too much; Close says so, and the log itself where it was cut off.
func (w *Writer) Print(step string, p []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.print(step, p)
	return nil
}

// Say adds a line of the run itself, marked as such; who reads one step only sees it too.
func (w *Writer) Say(text string) { _ = w.Print("", notice(text)) }

func (w *Writer) print(step string, p []byte) {
	if room := w.store.most - w.size; w.kept.Dropped == 0 && int64(len(p)) > room {
		w.take(step, p[:room])
		p = p[room:]
		w.kept.Reason = fmt.Sprintf("the log was cut off here: no more than %d bytes of a run are kept", w.store.most)
		w.take("", notice(w.kept.Reason))
		w.kept.Dropped += int64(len(p))
		return
	}
	if w.kept.Dropped > 0 || w.isLost() {
		w.kept.Dropped += int64(len(p))
		return
	}
	w.take(step, p)
}

// notice is a line of the log that is ours.
func notice(text string) []byte { return []byte("\n*** lemnis: " + text + " ***\n") }

func (w *Writer) isLost() bool {
	select {
	case <-w.lost:
		w.kept.Reason = w.why
		return true
	default:
		return false
	}
}

// take puts into chunks what is to be kept.
func (w *Writer) take(step string, p []byte) {
	for len(p) > 0 {
		if w.current == nil {
			w.current = <-w.free
			w.current.reset(w.attempt, w.size)
		}
		c := w.current
		n := min(len(p), chunkBytes-len(c.raw))
		c.add(step, p[:n])
		p, w.size = p[n:], w.size+int64(n)
		if len(c.raw) == chunkBytes || len(c.Parts) == chunkParts {
			c.Raw = len(c.raw) == chunkBytes && time.Since(c.begun) < hurry
			w.pass()
		}
	}
}

// pass gives the current chunk to the sender. There is room: no more chunks than that are there.
func (w *Writer) pass() {
	w.full <- w.current
	w.current = nil
}

func (c *chunk) reset(attempt uint64, offset int64) {
	*c = chunk{header: header{Attempt: attempt, Offset: offset, Parts: c.Parts[:0]}, raw: c.raw[:0], packed: c.packed, begun: time.Now()}
}

func (c *chunk) add(step string, p []byte) {
	c.raw = append(c.raw, p...)
	c.Size = len(c.raw)
	if last := len(c.Parts) - 1; last >= 0 && c.Parts[last].Step == step {
		c.Parts[last].Bytes += len(p)
		return
	}
	c.Parts = append(c.Parts, part{step, len(p)})
}

// flush passes on what has waited for a tick, for those who look on.
func (w *Writer) flush() {
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-tick.C:
		}
		if !w.mu.TryLock() {
			continue // it is being written to
		}
		if c := w.current; c != nil && c.aged {
			w.pass()
		} else if c != nil {
			c.aged = true
		}
		w.mu.Unlock()
	}
}

// Close sends what is left and says what was kept. whole says that the attempt came to its end; else another one follows.
func (w *Writer) Close(whole bool) Kept {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return w.kept
	}
	w.closed = true
	close(w.stop)
	if w.current != nil {
		w.pass()
	}
	w.isLost()
	if whole {
		last := <-w.free
		last.reset(w.attempt, w.size)
		last.End = &Kept{Size: w.size, Dropped: w.kept.Dropped, Reason: w.kept.Reason}
		w.full <- last
	}
	close(w.full)
	done := <-w.sent
	w.flushing.Wait()
	w.kept.Digest, w.kept.Size = done.Digest, done.Size
	if w.isLost() {
		w.kept.Dropped += w.size - done.Size
	}
	return w.kept
}

// send compresses and publishes chunk after chunk, with some on their way at a time.
func (w *Writer) send(ctx context.Context) {
	var way []*chunk
	sum, kept := sha256.New(), Kept{}
	silence := time.NewTimer(ackWait)
	defer silence.Stop()
	acked := func(c *chunk) {
		kept.Size += int64(c.Size)
		w.free <- c
	}
	for full := w.full; full != nil || len(way) > 0; {
		var ok <-chan *jetstream.PubAck
		var failed <-chan error
		var silent <-chan time.Time
		if len(way) > 0 {
			ok, failed, silent = way[0].ack.Ok(), way[0].ack.Err(), silence.C
		}
		var err error
		select {
		case c, more := <-full:
			if !more {
				full = nil
				continue
			}
			switch {
			case w.gone() && c.End == nil:
				w.free <- c
				continue
			case w.gone(): // the bus may be back: whoever reads the log learns that it is not whole, and waits for no more
				*c.End = Kept{Size: kept.Size, Dropped: c.End.Dropped + c.Offset - kept.Size, Reason: w.why}
			}
			sum.Write(c.raw)
			if c.End != nil && !w.gone() {
				c.End.Digest = "sha256:" + hex.EncodeToString(sum.Sum(nil))
			}
			if len(way) == 0 {
				silence.Reset(ackWait)
			}
			w.publish(c)
			way = append(way, c)
			continue
		case <-ok:
			acked(way[0])
			way = way[1:]
			silence.Reset(ackWait)
			continue
		case err = <-failed:
		case <-silent:
			err = errSilent
		}
		for _, c := range way {
			if err = w.again(ctx, c, err); err != nil {
				w.give(err)
				w.free <- c
			} else {
				acked(c)
			}
		}
		way = way[:0]
		silence.Reset(ackWait)
	}
	if !w.gone() {
		kept.Digest = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	}
	w.sent <- kept
}

func (w *Writer) gone() bool {
	select {
	case <-w.lost:
		return true
	default:
		return false
	}
}

// give gives the rest of the log up.
func (w *Writer) give(err error) {
	if !w.gone() {
		w.why = fmt.Sprintf("the log was cut off: it could not be kept: %v", err)
		close(w.lost)
	}
}

func (w *Writer) publish(c *chunk) {
	text, err := json.Marshal(c.header)
	if err == nil {
		data := c.raw
		if !c.Raw {
			c.packed = pack(c)
			data = c.packed
		}
		c.message = &nats.Msg{Subject: w.subject, Data: data, Header: nats.Header{
			headerName:            {string(text)},
			jetstream.MsgIDHeader: {w.subject + "/" + strconv.FormatUint(c.Attempt, 10) + "/" + strconv.FormatInt(c.Offset, 10) + end(c.End)},
		}}
		c.ack, err = w.store.js.PublishMsgAsync(c.message)
	}
	if err != nil {
		c.ack = failure(err)
	}
}

// pack compresses a chunk into its own room.
func pack(c *chunk) []byte { return s2.Encode(c.packed[:cap(c.packed)], c.raw) }

func end(k *Kept) string {
	if k == nil {
		return ""
	}
	return "/end"
}

// again sends a chunk that may not have been taken until it is, or for as long as there is patience. It is stored once: the server
// knows it by its id.
func (w *Writer) again(ctx context.Context, c *chunk, err error) error {
	wait := patience
	if w.gone() {
		if c.End == nil {
			return err
		}
		wait = min(wait, ackWait)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		if c.message == nil || ctx.Err() != nil {
			return err
		}
		if _, err = w.store.js.PublishMsg(ctx, c.message); err == nil {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
}

// failure is the ack of what could not be sent.
func failure(err error) jetstream.PubAckFuture {
	f := failedAck{make(chan error, 1)}
	f.err <- err
	return f
}

type failedAck struct{ err chan error }

func (f failedAck) Ok() <-chan *jetstream.PubAck { return nil }
func (f failedAck) Err() <-chan error            { return f.err }
func (f failedAck) Msg() *nats.Msg               { return nil }

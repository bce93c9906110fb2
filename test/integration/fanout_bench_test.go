package integration_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// Fan-out is measured from the outside too: `lemnis up` is a process of its own, those who listen are in this one, and
// share the machine's processors with it. How far somebody is behind is the time from when the stream stored an event
// (recordedtime) to when it was read. Memory is the resident memory with them minus that of another process which took in
// the same events for as long while nobody but the one that paces the load listened, divided by the listeners: a process
// that has stored more events keeps more of them at hand, whoever listens.
const (
	fanReaders       = 1000
	fanReaderRate    = 100 // events a second
	fanSubscriptions = 100
	fanSinkRate      = 50
	fanWarm          = 3 * time.Second
	fanLast          = 16 * time.Second
)

// BenchmarkFanOut is 1,000 readers of server-sent events, and 100 subscriptions over HTTP.
func BenchmarkFanOut(b *testing.B) {
	dir, err := programs()
	if err != nil {
		b.Fatal(err)
	}
	for _, one := range []struct {
		name      string
		listeners int
		rate      int
		rounds    int
		listen    listen
	}{
		{"sse", fanReaders, fanReaderRate, 1, readStreams},
		{"subscriptions", fanSubscriptions, fanSinkRate, 3, receive}, // a hundred are some MiB, of which one is noise
	} {
		b.Run(one.name, func(b *testing.B) {
			var each, behind, rate []float64
			for range b.N * one.rounds {
				without, _ := fanOut(b, dir, 0, one.rate, one.listen)
				with, all := fanOut(b, dir, one.listeners, one.rate, one.listen)
				each = append(each, (with-without)*1024/float64(one.listeners))
				behind = append(behind, time.Duration(all.worst.Load()).Seconds())
				rate = append(rate, float64(all.of[0].Load())/fanLast.Seconds())
			}
			b.Logf("KiB for each listener: %.1f; furthest behind, s: %.3f", each, behind)
			b.ReportMetric(median(each), "KiB-each")
			b.ReportMetric(slices.Max(behind), "behind-s")
			b.ReportMetric(median(rate), "events/s")
			b.ReportMetric(float64(one.listeners), "listeners")
			b.ReportMetric(0, "ns/op")
		})
	}
}

type listen func(ctx context.Context, b *testing.B, url string, n int) (*heard, func())

// fanOut is the resident memory of an installation, in MiB, while so many listen, or while one does for 0, and what they heard.
func fanOut(b *testing.B, dir string, listeners, rate int, to listen) (float64, *heard) {
	b.Helper()
	p, _ := launch(b, dir, b.TempDir(), "--allow-private-sinks", "127.0.0.0/8")
	defer p.stop()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	paces, leave := to(ctx, b, p.url, 1)
	claims := &fanClaims{url: p.url, each: 1}
	claims.keep(ctx, b, p.program, rate, fanWarm)
	claims.count(b, paces)
	all, end := paces, func() {}
	if listeners > 0 {
		all, end = to(ctx, b, p.url, listeners)
	} else {
		paces.of[0].Store(0)
	}
	resident := claims.keep(ctx, b, p.program, rate, fanLast)
	if listeners > 0 {
		all.alike(b)
	}
	cancel()
	end()
	leave()
	return resident, all
}

// heard is what listeners have read.
type heard struct {
	of    []atomic.Int64 // events, by listener
	worst atomic.Int64   // nanoseconds

	mu     sync.Mutex
	failed error
}

func newHeard(n int) *heard { return &heard{of: make([]atomic.Int64, n)} }

func (h *heard) event(listener int, recorded string) {
	at, err := time.Parse(time.RFC3339Nano, recorded)
	if err != nil {
		h.fail(fmt.Errorf("an event was recorded at %q", recorded))
		return
	}
	h.of[listener].Add(1)
	for behind := int64(time.Since(at)); ; {
		was := h.worst.Load()
		if behind <= was || h.worst.CompareAndSwap(was, behind) {
			return
		}
	}
}

func (h *heard) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = errors.Join(h.failed, err)
}

// alike waits until all have heard the same.
func (h *heard) alike(b *testing.B) {
	b.Helper()
	most := h.of[0].Load()
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(20 * time.Millisecond) {
		least := most
		for i := range h.of {
			least, most = min(least, h.of[i].Load()), max(most, h.of[i].Load())
		}
		if least == most {
			break
		}
		if time.Now().After(deadline) {
			b.Fatalf("of %d events somebody heard %d only", most, least)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed != nil {
		b.Fatal(h.failed)
	}
}

// fanClaims are claims on ten items of one project.
type fanClaims struct {
	url  string
	n    int64
	each float64 // events that a claim causes
}

// keep makes claims by the clock, as many as cause so many events a second, whatever anybody has heard: who is behind gets no
// less and no more. It returns the mean of the resident memory in the last quarter, in MiB: one look would see how full the
// heap is at that moment.
func (c *fanClaims) keep(ctx context.Context, b *testing.B, p *program, rate int, lasts time.Duration) (resident float64) {
	b.Helper()
	looks, look, first := 0.0, lasts*3/4, c.n
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < lasts; <-tick.C {
		if time.Since(began) >= look {
			resident, looks, look = resident+p.memory(b), looks+1, look+100*time.Millisecond
		}
		if float64(c.n-first)*c.each >= time.Since(began).Seconds()*float64(rate) {
			continue
		}
		if err := post(ctx, c.url, c.n*benchProjects, 1); err != nil {
			b.Fatal(err)
		}
		c.n++
	}
	return resident / looks
}

// count learns how many events a claim causes, once what was caused has been heard.
func (c *fanClaims) count(b *testing.B, h *heard) {
	b.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for last, still := int64(-1), 0; still < 10; <-time.After(50 * time.Millisecond) {
		if now := h.of[0].Load(); now == last && now > 0 {
			still++
		} else {
			last, still = now, 0
		}
		if time.Now().After(deadline) {
			b.Fatalf("after %d claims %d events were heard, and more come", c.n, last)
		}
	}
	c.each = float64(h.of[0].Load()) / float64(c.n)
}

// readStreams opens event streams, and waits until each hears what comes.
func readStreams(ctx context.Context, b *testing.B, url string, n int) (*heard, func()) {
	b.Helper()
	h := newHeard(n)
	var reading sync.WaitGroup
	opening, _ := errgroup.WithContext(ctx)
	opening.SetLimit(50)
	for i := range n {
		opening.Go(func() error {
			conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				return err
			}
			context.AfterFunc(ctx, func() { _ = conn.Close() })
			if _, err := io.WriteString(conn, "GET /events/stream?project=bench-0 HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				return err
			}
			response, err := http.ReadResponse(bufio.NewReaderSize(conn, 4<<10), nil)
			if err != nil {
				return err
			}
			lines := bufio.NewReaderSize(response.Body, 16<<10)
			for {
				line, err := lines.ReadSlice('\n')
				if err != nil {
					return fmt.Errorf("%s: %w", response.Status, err)
				}
				if bytes.HasPrefix(line, []byte(": hello")) {
					break
				}
			}
			reading.Go(func() {
				if err := readStream(lines, func(recorded string) { h.event(i, recorded) }); ctx.Err() == nil {
					h.fail(fmt.Errorf("a stream ended: %w", err))
				}
			})
			return nil
		})
	}
	if err := opening.Wait(); err != nil {
		b.Fatal(err)
	}
	return h, reading.Wait
}

// readStream reads server-sent events, without more work than it takes to know when each was recorded.
func readStream(lines *bufio.Reader, each func(recorded string)) error {
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(line, []byte("data: ")) {
			continue
		}
		_, rest, _ := bytes.Cut(line, []byte(`"recordedtime":"`))
		recorded, _, _ := bytes.Cut(rest, []byte(`"`))
		each(string(recorded))
	}
}

// receive makes subscriptions that push to a server of this process.
func receive(ctx context.Context, b *testing.B, url string, n int) (*heard, func()) {
	b.Helper()
	h := newHeard(n)
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		if r.Method != http.MethodPost {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		i, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil || i >= n {
			h.fail(fmt.Errorf("something came to %s", r.URL.Path))
			return
		}
		h.event(i, r.Header.Get("Ce-Recordedtime"))
	}))
	for i := range n {
		ask := fmt.Sprintf(`{"protocol":"HTTP","sink":"%s/%d","config":{"project":"bench-0"}}`, sink.URL, i)
		if err := request(ctx, http.MethodPost, url+"/subscriptions", ask, http.StatusCreated, nil); err != nil {
			b.Fatal(err)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); ; <-time.After(50 * time.Millisecond) {
		var text bytes.Buffer
		if err := request(ctx, http.MethodGet, url+"/subscriptions", "", http.StatusOK, &text); err != nil {
			b.Fatal(err)
		}
		if strings.Count(text.String(), `"state":"active"`) >= n {
			return h, sink.Close
		}
		if time.Now().After(deadline) {
			b.Fatalf("the subscriptions are not active: %.2000s", text.String())
		}
	}
}

func request(ctx context.Context, method, url, body string, status int, answer io.Writer) error {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != status {
		return fmt.Errorf("%s %s: %s: %s", method, url, response.Status, text)
	}
	if answer != nil {
		_, err = answer.Write(text)
	}
	return err
}

// memory is the resident memory of the process now, in MiB.
func (p *program) memory(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.Skipf("SKIPPED: memory is read from /proc, which is not there: %v", err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	field, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kib, err := strconv.ParseFloat(field, 64)
	if err != nil {
		b.Fatalf("no VmRSS in %s", status)
	}
	return kib / 1024
}

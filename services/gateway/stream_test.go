package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway"
)

// sse is one listener.
type sse struct {
	lines chan string // closed at the end
	close func()
}

func (w *world) listen(query, lastID string) *sse {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/events/stream?"+query, http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("%d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	s := &sse{lines: make(chan string, 10000), close: cancel}
	go func() {
		defer close(s.lines)
		defer func() { _ = resp.Body.Close() }()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 4<<20)
		for lines.Scan() {
			s.lines <- lines.Text()
		}
	}()
	w.t.Cleanup(cancel)
	return s
}

// next reads up to n events, as "sequence kind key"; fewer when the stream ends.
func (s *sse) next(t *testing.T, n int) []string {
	t.Helper()
	var got []string
	id, kind := "", ""
	timeout := time.After(patience)
	for len(got) < n {
		select {
		case line, ok := <-s.lines:
			if !ok {
				return got
			}
			name, value, _ := strings.Cut(line, ": ")
			switch name {
			case "id":
				id = value
			case "event":
				kind = value
			case "data":
				if kind == "dropped" {
					got = append(got, "dropped")
					continue
				}
				e, _, err := events.DecodeStructured([]byte(value))
				if err != nil {
					t.Fatal(err)
				}
				if fmt.Sprint(e.Sequence) != id || events.KindName(e.Kind) != kind {
					t.Errorf("id %s, event %s of %+v", id, kind, e)
				}
				got = append(got, id+" "+kind+" "+e.Key)
			}
		case <-timeout:
			t.Fatalf("only %v", got)
		}
	}
	return got
}

func (s *sse) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := s.next(t, len(want)); strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("got %v, want %v", got, want)
	}
}

// hello waits until the listener hears everything that comes.
func (s *sse) hello(t *testing.T) {
	t.Helper()
	for {
		select {
		case line := <-s.lines:
			if line == ": hello" {
				return
			}
		case <-time.After(patience):
			t.Fatal("no hello")
		}
	}
}

func TestStream(t *testing.T) {
	w := newWorld(t, func(o *gateway.Options) { o.Heartbeat = 20 * time.Millisecond })
	w.claim(ticket("t1", "before"))
	all, shop, develop, closed, chain := w.listen("", ""), w.listen("project=shop", ""), w.listen("phase=develop", ""), w.listen("type=ticket.closed", ""), w.listen("chain=chain-c1", "")
	for _, s := range []*sse{all, shop, develop, closed, chain} {
		s.hello(t)
	}
	w.claim(ticket("t2", "after"))
	w.state(fact("shop", "c1", events.Develop, events.ChangeAbandoned{}))
	w.state(fact("bank", "t9", events.Plan, events.TicketClosed{Resolution: "completed"}))
	all.expect(t, "2 claim t2", "3 fact c1", "4 fact t9")
	shop.expect(t, "2 claim t2", "3 fact c1")
	develop.expect(t, "3 fact c1")
	closed.expect(t, "4 fact t9")
	chain.expect(t, "3 fact c1")
	for line := range all.lines {
		if line == ": alive" {
			break
		}
	}
	w.listen("", "0").expect(t, "1 claim t1", "2 claim t2", "3 fact c1", "4 fact t9")
	w.listen("project=shop", "1").expect(t, "2 claim t2", "3 fact c1")
	late := w.listen("", "3")
	late.expect(t, "4 fact t9")
	w.claim(ticket("t3", "live again"))
	late.expect(t, "5 claim t3")

	// A restart sends listeners away; they come back without a gap.
	w.stop()
	if got := late.next(t, 1); len(got) != 0 {
		t.Errorf("from a gateway that is gone: %v", got)
	}
	w.state(fact("shop", "t3", events.Plan, ticket("t3", "x").Content))
	w.start()
	w.listen("", "5").expect(t, "6 fact t3")
	for _, bad := range []string{"limit=3", "phase=x", "colour=red"} {
		if resp, answer := w.send(http.MethodGet, "/events/stream?"+bad, ""); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d %s", bad, resp.StatusCode, answer)
		}
	}
	if resp, _ := w.send(http.MethodGet, "/events/stream", "", "Last-Event-ID", "x"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a bad Last-Event-ID: %d", resp.StatusCode)
	}
}

// Events that come while a listener catches up are neither lost nor sent twice.
func TestStreamResumesUnderLoad(t *testing.T) {
	const many = 3000
	w := newWorld(t)
	go func() {
		for i := range many {
			f := fact("shop", fmt.Sprintf("t%d", i), events.Plan, events.TicketClosed{Resolution: "completed"})
			f.Type = events.TypeOf(f.Content)
			m, err := events.Encode(f)
			if err != nil {
				t.Error(err)
				return
			}
			m.Subject = f.Subject(events.Stated)
			if _, err := w.host.JS.PublishMsg(t.Context(), m); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	last, received := "0", 0
	for received < many {
		s := w.listen("project=shop", last)
		for _, got := range s.next(t, min(700, many-received)) {
			if got == "dropped" {
				break
			}
			id, _, _ := strings.Cut(got, " ")
			if received++; id != fmt.Sprint(received) {
				t.Fatalf("event %d is %s", received, got)
			}
			last = id
		}
		s.close()
	}
}

func TestSlowListenerIsDropped(t *testing.T) {
	w := newWorld(t, func(o *gateway.Options) { o.Buffer = 16 })
	// Takes nothing: a connection that nobody reads.
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintf(conn, "GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReaderSize(conn, 16).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	listeners := func(name string) string {
		_, text := w.send(http.MethodGet, "/metrics", "")
		for line := range strings.SplitSeq(text, "\n") {
			if value, ok := strings.CutPrefix(line, name+" "); ok {
				return value
			}
		}
		return ""
	}
	w.until("it listens", func() bool { return listeners("lemnis_gateway_listeners") == "1" })
	quick := w.listen("", "")
	quick.hello(t)
	content := ticket("t", strings.Repeat("x", 256<<10)).Content
	sent := 0
	w.until("the slow one is dropped", func() bool {
		sent++
		w.state(fact("shop", fmt.Sprintf("t%d", sent), events.Plan, content))
		quick.expect(t, fmt.Sprintf("%d fact t%d", sent, sent)) // it does not wait for the other
		return listeners("lemnis_gateway_listeners_dropped_total") == "1"
	})
	if got := listeners("lemnis_gateway_listeners"); got != "1" {
		t.Errorf("%s listen", got)
	}
	// When it reads at last, it is told.
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		if lines.Text() == "event: dropped" {
			return
		}
	}
	t.Errorf("it was not told: %v", lines.Err())
}

// What was stored before a listener came is nothing that comes, also where the reader of the stream's end is behind it.
func TestStreamBeginsNow(t *testing.T) {
	w := newWorld(t)
	w.claim(ticket("t0", "lets the listeners' reader join"))
	w.until("live events come by the shared reader", func() bool { return w.gw.Followers() > 0 })
	release := w.gw.HoldTail()
	w.claim(ticket("t1", "before"))
	s := w.listen("", "")
	s.hello(t)
	if line := <-s.lines; line != "id: 2" { // to come back by, when the connection breaks before the first event
		t.Errorf("it may resume from %q", line)
	}
	release()
	w.claim(ticket("t2", "after"))
	s.expect(t, "3 claim t2")
}

package gateway_test

import (
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway"
)

// named is the same claim each time: one that was refused may have reached the stream, and is known again.
func named(id string) events.Event {
	e := ticket(id, "yes")
	e.ID = "claim-" + id
	return e
}

// refusedFor expects a publisher to be sent away for a while with what is missing, and /readyz to name it.
func (w *world) refusedFor(id, missing string) {
	w.t.Helper()
	body, err := events.EncodeStructured(named(id))
	if err != nil {
		w.t.Fatal(err)
	}
	said := ""
	w.until("a publisher is told: "+missing, func() bool {
		resp, answer := w.send(http.MethodPost, "/events", string(body), "Content-Type", "application/cloudevents+json")
		said = answer
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			w.t.Fatalf("%d, Retry-After %q: %s", resp.StatusCode, resp.Header.Get("Retry-After"), said)
		}
		return strings.Contains(said, missing)
	})
	w.until("/readyz names it: "+missing, func() bool {
		resp, answer := w.send(http.MethodGet, "/readyz", "")
		return resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(answer, missing)
	})
}

func (w *world) readyAgain() {
	w.t.Helper()
	w.until("ready again", func() bool {
		resp, _ := w.send(http.MethodGet, "/readyz", "")
		return resp.StatusCode == http.StatusOK
	})
}

// answeredOnce expects one fact for each acknowledged ticket.
func (w *world) answeredOnce(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		facts := func() (n int) {
			var p page
			w.get("/events?project=shop&aggregate=item&key="+id, &p)
			for _, e := range p.Events {
				if e["kind"] == "fact" {
					n++
				}
			}
			return n
		}
		w.until("the fact of "+id, func() bool { return facts() > 0 })
		if n := facts(); n != 1 {
			w.t.Errorf("%s has %d facts", id, n)
		}
	}
}

func (w *world) limit(messages int64) {
	w.t.Helper()
	s, err := w.host.JS.Stream(w.t.Context(), natsd.Lifecycle)
	if err != nil {
		w.t.Fatal(err)
	}
	c := s.CachedInfo().Config
	c.MaxMsgs, c.Discard = messages, jetstream.DiscardNew
	if _, err := w.host.JS.UpdateStream(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
}

// The last place goes to a claim, so that the service has none for its fact: it waits, as publishers do.
func TestFullStream(t *testing.T) {
	w := newWorld(t)
	w.planner()
	s, err := w.host.JS.Stream(t.Context(), natsd.Lifecycle)
	if err != nil {
		t.Fatal(err)
	}
	w.limit(int64(s.CachedInfo().State.Msgs) + 1)
	w.claim(ticket("t1", "yes"))
	w.refusedFor("t2", "the stream LIFECYCLE is full")
	w.limit(-1)
	w.readyAgain()
	w.claim(named("t2"))
	w.answeredOnce("t1", "t2")
}

// A Redis that stops and starts, empty.
func TestRedisAway(t *testing.T) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("SKIPPED: a Redis that goes away was NOT tried; there is no redis-server on the PATH")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	_ = l.Close()
	var running *exec.Cmd
	stop := func() { _ = running.Process.Kill(); _ = running.Wait() }
	begin := func() {
		running = exec.Command(program, "--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", t.TempDir())
		if err := running.Start(); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	t.Cleanup(func() { stop() })
	var store *fold.Store
	for deadline := time.Now().Add(patience); store == nil; <-time.After(5 * time.Millisecond) {
		if store, err = fold.Open(t.Context(), "redis://"+address); err != nil && time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = store.Close() })
	w := newWorld(t)
	w.stop()
	if w.host, err = service.NewHost(t.Context(), w.conn, store, 1, w.host.Log); err != nil {
		t.Fatal(err)
	}
	w.host.Timing = service.Timing{Lease: time.Second}
	w.start(func(o *gateway.Options) { o.Host = w.host })
	w.planner()
	w.claim(ticket("t1", "yes"))
	w.answeredOnce("t1")
	stop()
	w.refusedFor("t2", "the store of folds (Redis) is away")
	begin()
	w.readyAgain()
	w.until("claims are taken again", func() bool {
		body, _ := events.EncodeStructured(named("t2"))
		resp, _ := w.send(http.MethodPost, "/events", string(body), "Content-Type", "application/cloudevents+json")
		return resp.StatusCode == http.StatusAccepted
	})
	w.answeredOnce("t1", "t2")
}

// A server that stops, and starts again on its port and folder.
func TestBusAwayAndBack(t *testing.T) {
	w := newWorld(t)
	w.stop()
	address := strings.TrimPrefix(w.server.URL(), "nats://")
	nc, err := nats.Connect(w.server.URL(), append(w.server.ServiceOptions(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if w.host, err = service.NewHost(t.Context(), nc, w.folds, 1, w.host.Log); err != nil {
		t.Fatal(err)
	}
	w.host.Timing = service.Timing{Lease: time.Second}
	w.start(func(o *gateway.Options) { o.Host = w.host })
	w.planner()
	w.claim(ticket("t1", "yes"))
	w.server.Stop()
	w.refusedFor("t2", "the bus (NATS) is away")
	if w.server, err = natsd.Start(natsd.Options{Dir: w.dir, Listen: address}); err != nil {
		t.Fatal(err)
	}
	again := w.server
	t.Cleanup(again.Stop)
	w.readyAgain()
	w.until("claims are taken again", func() bool {
		body, _ := events.EncodeStructured(named("t2"))
		resp, _ := w.send(http.MethodPost, "/events", string(body), "Content-Type", "application/cloudevents+json")
		return resp.StatusCode == http.StatusAccepted
	})
	w.answeredOnce("t1", "t2")
}

package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/gateway"
)

const patience = 15 * time.Second

// world is an installation with one gateway.
type world struct {
	t      testing.TB
	dir    string // of the bus
	server *natsd.Server
	conn   *nats.Conn
	folds  *fold.Store
	host   service.Host
	gw     *gateway.Gateway
	url    string
	stop   func() // ends the gateway; the bus stays
}

func newWorld(t testing.TB, change ...func(*gateway.Options)) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	var err error
	if w.server, err = natsd.Start(natsd.Options{Dir: w.dir, Listen: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.server.Stop)
	if w.conn, err = w.server.Connect(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.conn.Close)
	if w.folds, err = fold.Embedded(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.folds.Close() })
	log := zap.NewNop()
	if os.Getenv("LEMNIS_TEST_LOG") != "" {
		log, _ = zap.NewDevelopment()
	}
	if w.host, err = service.NewHost(t.Context(), w.conn, w.folds, 1, log); err != nil {
		t.Fatal(err)
	}
	w.host.Timing = service.Timing{Lease: time.Second}
	w.start(change...)
	return w
}

// start begins a gateway, or another one after stop.
func (w *world) start(change ...func(*gateway.Options)) {
	w.t.Helper()
	o := gateway.Options{Host: w.host}
	for _, c := range change {
		c(&o)
	}
	var err error
	if w.gw, err = gateway.New(o); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.gw.Run(ctx); err != nil {
			w.t.Errorf("run: %v", err)
		}
	})
	s := httptest.NewServer(w.gw.Handler())
	w.url = s.URL
	var once sync.Once
	w.stop = func() { once.Do(func() { cancel(); running.Wait(); s.CloseClientConnections(); s.Close() }) }
	w.t.Cleanup(w.stop)
	w.until("ready", func() bool { return w.gw.Ready() == "" })
}

// until polls for a condition.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			w.t.Fatalf("not in time: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// planner runs a service of the plan phase that takes tickets, but for those that say "no".
func (w *world) planner() {
	w.t.Helper()
	s := service.New(w.host, service.Definition{Phase: events.Plan, Aggregates: []service.Aggregate{service.Of(service.Rules[int]{
		Kind: "item", Version: 1,
		Route:  func(_ events.Project, e events.Event) []string { return []string{e.Key} },
		Evolve: func(s int, _ events.Event) int { return s + 1 },
		Decide: func(_ string, _ int, _ events.Project, e events.Event) (events.Fact, bool) {
			c, ok := e.Content.(events.TicketCreated)
			if ok && c.Summary == "no" {
				return events.Refuse(e, "because you said so")
			}
			return events.Fact{Content: c}, ok
		},
	})}})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			w.t.Errorf("planner: %v", err)
		}
	})
	w.t.Cleanup(func() { cancel(); running.Wait() })
	<-s.Ready()
}

// send makes a request; headers are pairs of name and value.
func (w *world) send(method, path, body string, headers ...string) (*http.Response, string) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		} else {
			r.Header.Add(headers[i], headers[i+1])
		}
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, string(answer)
}

// get reads JSON and expects 200.
func (w *world) get(path string, into any) {
	w.t.Helper()
	resp, body := w.send(http.MethodGet, path, "")
	if resp.StatusCode != http.StatusOK {
		w.t.Fatalf("%s answered %d: %s", path, resp.StatusCode, body)
	}
	if err := json.Unmarshal([]byte(body), into); err != nil {
		w.t.Fatalf("%s answered %q: %v", path, body, err)
	}
}

// receipt is the answer to a claim.
type receipt struct {
	Status    int    `json:"status"`
	ID        string `json:"id"`
	Sequence  uint64 `json:"sequence"`
	Project   string `json:"project"`
	Phase     string `json:"phase"`
	Duplicate bool   `json:"duplicate"`
	Detail    string `json:"detail"`
}

// claim posts an event in structured mode and expects 202.
func (w *world) claim(e events.Event) receipt {
	w.t.Helper()
	body, err := events.EncodeStructured(e)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, answer := w.send(http.MethodPost, "/events", string(body), "Content-Type", "application/cloudevents+json")
	var r receipt
	if err := json.Unmarshal([]byte(answer), &r); err != nil || resp.StatusCode != http.StatusAccepted {
		w.t.Fatalf("%d: %s", resp.StatusCode, answer)
	}
	return r
}

// state puts a fact on the stream, as a service would.
func (w *world) state(e events.Event) uint64 {
	w.t.Helper()
	if e.Type == "" {
		e.Type = events.TypeOf(e.Content)
	}
	m, err := events.Encode(e)
	if err != nil {
		w.t.Fatal(err)
	}
	m.Subject = e.Subject(events.Stated)
	ack, err := w.host.JS.PublishMsg(w.t.Context(), m)
	if err != nil {
		w.t.Fatal(err)
	}
	return ack.Sequence
}

// stored reads a message of the stream.
func (w *world) stored(sequence uint64) (events.Event, []byte, string) {
	w.t.Helper()
	s, err := w.host.JS.Stream(w.t.Context(), natsd.Lifecycle)
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := s.GetMsg(w.t.Context(), sequence)
	if err != nil {
		w.t.Fatal(err)
	}
	e, err := events.Decode(m.Header, m.Data)
	if err != nil {
		w.t.Fatal(err)
	}
	return e, m.Data, m.Subject
}

func ticket(id, summary string) events.Event {
	e := events.New("shop", id, events.TicketCreated{Ticket: events.Ticket{Summary: summary, Creator: "ann", URI: "https://example.org/" + id}})
	e.Source = "/test"
	return e
}

func fact(project, key string, phase events.Phase, content any) events.Event {
	e := events.New(project, key, content)
	e.Phase, e.Source, e.Chain = phase, "/test", "chain-"+key
	return e
}

// page is the answer of GET /events.
type page struct {
	Events []map[string]any `json:"events"`
	Next   *string          `json:"next"`
}

func (p page) ids() string {
	var b bytes.Buffer
	for _, e := range p.Events {
		fmt.Fprintf(&b, "%v:%v ", e["kind"], e["key"])
	}
	return strings.TrimSpace(b.String())
}

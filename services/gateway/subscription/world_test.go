package subscription

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

const patience = 20 * time.Second

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// quick is a patience that tests have.
var quick = Patience{Timeout: 2 * time.Second, Least: time.Millisecond, Most: 20 * time.Millisecond, Handshake: 10 * time.Millisecond}

// world is a bus with one manager.
type world struct {
	t       testing.TB
	server  *natsd.Server
	conn    *nats.Conn
	host    service.Host
	manager *Manager

	mu      sync.Mutex
	changes []string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t}
	var err error
	if w.server, err = natsd.Start(natsd.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.server.Stop)
	if w.conn, err = w.server.Connect(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.conn.Close)
	folds, err := fold.Embedded("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = folds.Close() })
	log := zap.NewNop()
	if os.Getenv("LEMNIS_TEST_LOG") != "" {
		log, _ = zap.NewDevelopment()
	}
	if w.host, err = service.NewHost(t.Context(), w.conn, folds, 1, log); err != nil {
		t.Fatal(err)
	}
	w.host.Timing = service.Timing{Lease: time.Second}
	w.manager = w.newManager()
	return w
}

func (w *world) newManager(change ...func(*Options)) *Manager {
	o := Options{Host: w.host, Allow: loopback, Patience: quick, Record: func(_ context.Context, principal, id, change string) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.changes = append(w.changes, principal+" "+change)
		return nil
	}}
	for _, c := range change {
		c(&o)
	}
	return New(o)
}

// run delivers until the returned function is called, or the test ends.
func (w *world) run(m *Manager) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := m.Run(ctx); err != nil {
			w.t.Errorf("run: %v", err)
		}
	})
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); running.Wait() }) }
	w.t.Cleanup(stop)
	return stop
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

// state puts a fact about a ticket on the stream, as a service would.
func (w *world) state(project, key, summary string) uint64 {
	w.t.Helper()
	e := events.New(project, key, events.TicketCreated{Ticket: events.Ticket{Summary: summary, Creator: "ann", URI: "https://example.org/" + key}})
	e.Source, e.Chain, e.Aggregate, e.ID = "/test", "chain-"+key, "item", fmt.Sprintf("%s-%s-%s", project, key, summary)
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

func wanted(sink string) Subscription {
	return Subscription{Protocol: HTTP, Sink: sink, Config: Config{Project: "shop", Start: "all"}}
}

func (w *world) create(s Subscription) View {
	w.t.Helper()
	v, err := w.manager.Create(w.t.Context(), "ann", s)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func (w *world) status(id string) Status {
	w.t.Helper()
	v, err := w.manager.Get(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return v.Status
}

// settled says whether nothing is on its way to any of the subscriptions.
func (w *world) settled(all []View) bool {
	w.t.Helper()
	return !slices.ContainsFunc(all, func(v View) bool { return w.status(v.ID).Waiting > 0 })
}

// got is a delivery that a receiver took in.
type got struct {
	id, key string
	header  http.Header
	body    []byte
	at      time.Time
}

// receiver agrees to events and keeps them; answer may refuse one by a status.
type receiver struct {
	*httptest.Server
	answer func(g got, try int) int // nil: always 204

	mu      sync.Mutex
	all     []got // that were taken
	tries   map[string]int
	options []http.Header
}

func newReceiver(t testing.TB, answer func(g got, try int) int) *receiver {
	r := &receiver{answer: answer, tries: map[string]int{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
		if q.Method == http.MethodOptions {
			r.mu.Lock()
			r.options = append(r.options, q.Header.Clone())
			r.mu.Unlock()
			rw.Header().Set("WebHook-Allowed-Origin", q.Header.Get("WebHook-Request-Origin"))
			rw.Header().Set("WebHook-Allowed-Rate", "*")
			return
		}
		body, _ := io.ReadAll(q.Body)
		g := got{id: q.Header.Get("Webhook-Id"), key: q.Header.Get("Ce-Key"), header: q.Header.Clone(), body: body, at: time.Now()}
		r.mu.Lock()
		r.tries[g.id]++
		try := r.tries[g.id]
		r.mu.Unlock()
		status := http.StatusNoContent
		if r.answer != nil {
			status = r.answer(g, try)
		}
		if status < 300 {
			r.mu.Lock()
			r.all = append(r.all, g)
			r.mu.Unlock()
		}
		rw.WriteHeader(status)
	}))
	t.Cleanup(func() { r.CloseClientConnections(); r.Close() })
	return r
}

func (r *receiver) taken() []got {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]got(nil), r.all...)
}

func (r *receiver) tried(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tries[id]
}

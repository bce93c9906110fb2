package bench

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

const project = "bench"

// echo states one fact for one event; its state is as small as a counter, so that the runtime is measured and not the
// rules.
func echo() service.Definition {
	return service.Definition{Phase: events.Plan, Aggregates: []service.Aggregate{service.Of(service.Rules[int]{
		Kind: "item", Version: 1,
		Route:  func(_ events.Project, e events.Event) []string { return []string{e.Key} },
		Evolve: func(s int, _ events.Event) int { return s + 1 },
		Decide: func(_ string, _ int, _ events.Project, e events.Event) (events.Fact, bool) {
			return events.Fact{Content: e.Content}, true
		},
	})}}
}

func ticket(i, aggregates int) events.Event {
	key := "item-" + strconv.Itoa(i%aggregates)
	return events.Event{
		ID: "claim-" + strconv.Itoa(i), Source: "/bench", Type: events.TypeOf(events.TicketCreated{}), Time: time.Now(),
		Project: project, Phase: events.Plan, Key: key, SubjectID: key, Principal: "local", Chain: "chain-" + strconv.Itoa(i),
		Content: events.TicketCreated{Ticket: events.Ticket{Summary: "Search is slow on long words", Creator: "ann", URI: "/items/" + key}},
	}
}

// testBus is a server with its streams, and a store of folds.
type testBus struct {
	host service.Host
	nc   *nats.Conn
	end  func() // of the server and what hangs on it; once is enough
}

// embedded starts a server in this process.
func embedded(b *testing.B, loopback bool) testBus {
	b.Helper()
	server, err := natsd.Start(natsd.Options{Dir: b.TempDir(), Listen: "127.0.0.1:0"}) // as lemnis up runs it
	if err != nil {
		b.Fatal(err)
	}
	connect := server.Connect
	if loopback {
		connect = func(...nats.Option) (*nats.Conn, error) {
			return nats.Connect(server.URL(), server.ServiceOptions()...)
		}
	}
	nc, err := connect()
	if err != nil {
		b.Fatal(err)
	}
	out := hosted(b, nc)
	out.end = sync.OnceFunc(func() { nc.Close(); server.Stop() })
	b.Cleanup(out.end)
	return out
}

func hosted(b *testing.B, nc *nats.Conn) testBus {
	b.Helper()
	folds, err := fold.Embedded("")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = folds.Close() })
	host, err := service.NewHost(b.Context(), nc, folds, 1, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	return testBus{host: host, nc: nc}
}

// publish stores n messages without waiting for each ack.
func (bus testBus) publish(b *testing.B, n int, message func(i int) *nats.Msg) {
	b.Helper()
	for i := range n {
		if _, err := bus.host.JS.PublishMsgAsync(message(i), jetstream.WithStallWait(10*time.Second)); err != nil {
			b.Fatal(err)
		}
	}
	select {
	case <-bus.host.JS.PublishAsyncComplete():
	case <-time.After(2 * time.Minute):
		b.Fatal("messages were not stored")
	}
}

func encoded(e events.Event, kind events.Kind) *nats.Msg {
	msg, err := events.Encode(e)
	if err != nil {
		panic(err)
	}
	msg.Subject = e.Subject(kind)
	return msg
}

// last is where the stream ends.
func (bus testBus) last(b *testing.B) uint64 {
	b.Helper()
	n, err := service.LastSequence(b.Context(), bus.host)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// awaitEnd waits until the stream has come to a sequence, and says where it ends then.
func (bus testBus) awaitEnd(b *testing.B, sequence uint64) uint64 {
	b.Helper()
	return bus.watchEnd(b, sequence, 10*time.Millisecond)
}

// watchEnd is awaitEnd with a look at the stream every so often.
func (bus testBus) watchEnd(b *testing.B, sequence uint64, every time.Duration) uint64 {
	b.Helper()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Minute); ; <-tick.C {
		if n := bus.last(b); n >= sequence {
			return n
		} else if time.Now().After(deadline) {
			b.Fatalf("the stream has come to %d, not to %d", n, sequence)
		}
	}
}

// run runs a service until the returned function is called.
func (bus testBus) run(b *testing.B) (s *service.Service, stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s = service.New(bus.host, echo())
	go func() { ended <- s.Run(ctx) }()
	return s, func() {
		cancel()
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
	}
}

// residentMiB is the memory that a process holds, from /proc.
func residentMiB(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
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

func median[T cmp.Ordered](v []T) T {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

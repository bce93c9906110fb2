package service

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// The runtime is measured against the least that could do its work: plain nats.go reading the
// same claims in order, and publishing for each a message with as many headers and bytes under
// the same check. It neither decodes nor encodes JSON, decides, folds nor saves. Rounds alternate
// and ratios are of medians, since the machine's speed drifts.

const (
	benchRounds     = 5
	latencyRounds   = 25 // many short ones: each finds its own place on the processors, which moves a p50 by a third
	benchClaims     = 20_000
	benchAggregates = 1_000
	benchWorkers    = 8
)

// echoRules state one fact for one event.
func echoRules() Rules[int] {
	return Rules[int]{
		Kind: "item", Version: 1,
		Route:  func(_ events.Project, e events.Event) []string { return []string{e.Key} },
		Evolve: func(s int, _ events.Event) int { return s + 1 },
		Decide: func(_ string, _ int, _ events.Project, e events.Event) (events.Fact, bool) {
			return events.Fact{Content: e.Content}, true
		},
	}
}

// benchBus is one fresh server with claims on it.
type benchBus struct {
	server *natsd.Server
	nc     *nats.Conn
	js     jetstream.JetStream
	host   Host
	folds  *fold.Store
}

func newBenchBus(b *testing.B, loopback bool) *benchBus {
	b.Helper()
	server, err := natsd.Start(natsd.Options{Dir: b.TempDir(), Listen: "127.0.0.1:0"}) // as lemnis up runs it
	if err != nil {
		b.Fatal(err)
	}
	var nc *nats.Conn
	if loopback {
		nc, err = nats.Connect(server.URL(), server.ServiceOptions()...)
	} else {
		nc, err = server.Connect()
	}
	if err != nil {
		b.Fatal(err)
	}
	folds, err := fold.Embedded("")
	if err != nil {
		b.Fatal(err)
	}
	host, err := NewHost(context.Background(), nc, folds, 1, testLog())
	if err != nil {
		b.Fatal(err)
	}
	return &benchBus{server: server, nc: nc, js: host.JS, host: host, folds: folds}
}

func (bb *benchBus) close() {
	bb.nc.Close()
	_ = bb.folds.Close()
	bb.server.Stop()
}

func benchClaim(i int) *nats.Msg {
	key := "item-" + strconv.Itoa(i%benchAggregates)
	e := events.Event{
		ID: "claim-" + strconv.Itoa(i), Source: "/bench", Type: events.TypeOf(events.TicketCreated{}), Time: time.Now(),
		Project: "bench", Phase: events.Plan, Key: key, SubjectID: key, Principal: "local", Chain: "chain-" + strconv.Itoa(i),
		Content: events.TicketCreated{Ticket: events.Ticket{Summary: "Search is slow on long words", Creator: "ann", URI: "/items/" + key}},
	}
	msg, err := events.Encode(e)
	if err != nil {
		panic(err)
	}
	msg.Subject = e.Subject(events.Claim)
	return msg
}

func (bb *benchBus) fill(b *testing.B, n int) {
	b.Helper()
	for i := range n {
		if _, err := bb.js.PublishMsgAsync(benchClaim(i), jetstream.WithStallWait(5*time.Second)); err != nil {
			b.Fatal(err)
		}
	}
	select {
	case <-bb.js.PublishAsyncComplete():
	case <-time.After(60 * time.Second):
		b.Fatal("claims were not stored")
	}
}

// factBody is how many bytes the body of a fact has that [echoRules] state, and the headers that
// a fact has beyond those of its claim.
const factBody = 408

var factHeader = nats.Header{
	"ce-aggregate": {"item"}, "ce-causationid": {"claim-10000"}, "ce-causesequence": {"10000"},
	"ce-traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
}

// plainLoop is the yardstick: it reads claims in order and publishes for each a message like the
// fact, with a message id and the last sequence of its partition expected. acked is called with
// the claim's number after each ack.
func plainLoop(ctx context.Context, js jetstream.JetStream, acked func(claim string)) error {
	type job struct {
		key    string
		claim  string
		header nats.Header
		data   []byte
		seq    uint64
	}
	var group sync.WaitGroup
	defer group.Wait()
	queues := make([]chan job, benchWorkers)
	defer func() {
		for _, q := range queues {
			close(q)
		}
	}()
	for i := range queues {
		queues[i] = make(chan job, 256)
		group.Go(func() {
			last := map[int]uint64{}
			for j := range queues[i] {
				p := events.Partition(j.key)
				msg := &nats.Msg{Subject: "lifecycle.bench.plan.ticket.created." + j.key, Header: make(nats.Header, 20)}
				msg.Data = append(make([]byte, 0, factBody), j.data...)[:factBody]
				maps.Copy(msg.Header, j.header)
				maps.Copy(msg.Header, factHeader)
				msg.Header[headerMsgID] = []string{"f/00000000-0000-5000-8000-" + strconv.FormatUint(1e11+j.seq, 10)}
				msg.Header[headerExpectLast] = []string{strconv.FormatUint(last[p], 10)}
				msg.Header[headerExpectFilter] = []string{events.FenceFilter("bench", events.Plan, p)}
				ack, err := js.PublishMsg(ctx, msg)
				if err != nil {
					if ctx.Err() == nil {
						panic(err)
					}
					return
				}
				last[p] = ack.Sequence
				acked(j.claim)
			}
		})
	}
	err := tail(ctx, js, zap.NewNop(), []string{"claims.*.plan.*.*.*"}, 1, func(m Message) error {
		key := m.Headers().Get("ce-key")
		queues[events.Partition(key)%benchWorkers] <- job{key: key, claim: m.Headers().Get("ce-id"), header: m.Headers(), data: m.Data(), seq: m.Sequence}
		return nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// runtimeLoop runs the service; acked is called at the same moment as in plainLoop.
func runtimeLoop(ctx context.Context, h Host, acked func(claim string)) error {
	h.faults = &faults{crash: func(s step, e *events.Event) bool {
		if s == stepPublished {
			acked(e.ID)
		}
		return false
	}, unlocked: true}
	return New(h, Definition{Phase: events.Plan, Aggregates: []Aggregate{Of(echoRules())}}).Run(ctx)
}

// throughput is facts a second over claims that wait already.
func throughput(b *testing.B, loopback, plain bool) float64 {
	b.Helper()
	bb := newBenchBus(b, loopback)
	defer bb.close()
	bb.fill(b, benchClaims)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var done atomic.Int64
	var start time.Time
	var once sync.Once
	finished := make(chan time.Duration, 1)
	acked := func(string) {
		once.Do(func() { start = time.Now() })
		if done.Add(1) == benchClaims {
			finished <- time.Since(start)
		}
	}
	ended := make(chan error, 1)
	go func() {
		if plain {
			ended <- plainLoop(ctx, bb.js, acked)
		} else {
			ended <- runtimeLoop(ctx, bb.host, acked)
		}
	}()
	select {
	case took := <-finished:
		cancel()
		<-ended
		return benchClaims / took.Seconds()
	case err := <-ended:
		b.Fatalf("the loop ended: %v", err)
	case <-time.After(120 * time.Second):
		b.Fatalf("only %d facts", done.Load())
	}
	return 0
}

// latency is the time from a claim's ack to the ack of the fact that it caused, one claim at a
// time, p50 and p99 in microseconds.
func latency(b *testing.B, loopback, plain bool) (p50, p99 float64) {
	b.Helper()
	const n = 800
	bb := newBenchBus(b, loopback)
	defer bb.close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stated := make(chan time.Time, 1)
	acked := func(string) { stated <- time.Now() }
	ended := make(chan error, 1)
	go func() {
		if plain {
			ended <- plainLoop(ctx, bb.js, acked)
		} else {
			ended <- runtimeLoop(ctx, bb.host, acked)
		}
	}()
	took := make([]float64, 0, n)
	for i := range n + 100 {
		if _, err := bb.js.PublishMsg(ctx, benchClaim(i)); err != nil {
			b.Fatal(err)
		}
		sent := time.Now()
		select {
		case at := <-stated:
			if i >= 100 { // the first ones warm up
				took = append(took, max(float64(at.Sub(sent).Microseconds()), 1))
			}
		case <-time.After(10 * time.Second):
			b.Fatal("no fact")
		}
	}
	cancel()
	<-ended
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100]
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func BenchmarkDecide(b *testing.B) {
	for _, loopback := range []bool{false, true} {
		name := "embedded"
		if loopback {
			name = "loopback"
		}
		b.Run("throughput/"+name, func(b *testing.B) {
			for range b.N {
				var plain, runtime []float64
				for range benchRounds {
					plain = append(plain, throughput(b, loopback, true))
					runtime = append(runtime, throughput(b, loopback, false))
				}
				b.ReportMetric(median(runtime)/median(plain), "ratio")
				b.ReportMetric(median(runtime), "facts/s")
				b.ReportMetric(median(plain), "plain/s")
			}
			b.ReportMetric(0, "ns/op")
		})
		b.Run("latency/"+name, func(b *testing.B) {
			for range b.N {
				var plain50, plain99, runtime50, runtime99 []float64
				for range latencyRounds {
					p50, p99 := latency(b, loopback, true)
					plain50, plain99 = append(plain50, p50), append(plain99, p99)
					p50, p99 = latency(b, loopback, false)
					runtime50, runtime99 = append(runtime50, p50), append(runtime99, p99)
				}
				b.ReportMetric(median(runtime50)/median(plain50), "p50-ratio")
				b.ReportMetric(median(runtime99)/median(plain99), "p99-ratio")
				b.ReportMetric(median(runtime50), "p50-µs")
				b.ReportMetric(median(plain50), "plain-p50-µs")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/lemnis/lemnis/pkg/events"
)

// The programs are measured from the outside, as an operator sees them: rounds alternate, and medians are told.
const (
	benchRounds = 3
	benchEvents = 100_000
	// Ten projects of ten items: each change ranks the ten anew.
	benchProjects = 10
	benchItems    = 10
)

// BenchmarkStart measures `lemnis up` from its start to the first 200 of /readyz, on an empty data folder and on one that
// holds 100,000 events, and the memory that it takes when nobody wants anything.
func BenchmarkStart(b *testing.B) {
	dir, err := programs()
	if err != nil {
		b.Fatal(err)
	}
	filled := b.TempDir()
	fill(b, dir, filled)
	var empty, full, killed, idle []float64
	b.ResetTimer()
	for range b.N {
		for range benchRounds {
			p, took := launch(b, dir, b.TempDir())
			empty = append(empty, took.Seconds())
			idle = append(idle, p.settledMemory(b))
			p.stop()

			p, took = launch(b, dir, filled)
			full = append(full, took.Seconds())
			p.kill()
			p, took = launch(b, dir, filled)
			killed = append(killed, took.Seconds())
			p.stop()
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(empty), "empty-s")
	b.ReportMetric(median(full), "full-s")
	b.ReportMetric(median(killed), "full-after-kill-s")
	b.ReportMetric(median(idle), "idle-MiB")
}

// installation is a running `lemnis up`.
type installation struct {
	*program
	url, nats string
}

// launch starts `lemnis up` and returns how long it took to be ready.
func launch(b *testing.B, dir, data string, more ...string) (installation, time.Duration) {
	b.Helper()
	http, nats := freePort(b), freePort(b)
	began := time.Now()
	p := installation{
		program: start(b, filepath.Join(dir, "lemnis"), nil, append([]string{"up", "--data", data,
			"--http", fmt.Sprintf("127.0.0.1:%d", http), "--nats-listen", fmt.Sprintf("127.0.0.1:%d", nats)}, more...)...),
		url: fmt.Sprintf("http://127.0.0.1:%d", http), nats: fmt.Sprintf("nats://127.0.0.1:%d", nats),
	}
	answers(b, p.url+"/readyz", p.program)
	return p, time.Since(began)
}

// settledMemory is the resident memory in MiB some seconds after the start, when what the start needed is over.
func (p *program) settledMemory(b *testing.B) float64 {
	b.Helper()
	<-time.After(5 * time.Second)
	return p.memory(b)
}

// fill has an installation decide over HTTP until its stream holds 100,000 events: about as many facts as claims.
func fill(b *testing.B, dir, data string) {
	b.Helper()
	p, _ := launch(b, dir, data)
	defer p.stop()
	nc, err := nats.Connect(p.nats)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	stored := func(ctx context.Context) (uint64, error) {
		stream, err := js.Stream(ctx, "LIFECYCLE")
		if err != nil {
			return 0, err
		}
		return stream.CachedInfo().State.LastSeq, nil
	}
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	const batch, senders = 100, 4
	var claims atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range senders {
		group.Go(func() error {
			for {
				if last, err := stored(ctx); err != nil || last >= benchEvents {
					return err
				}
				if err := post(ctx, p.url, claims.Add(batch)-batch, batch); err != nil {
					return err
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatalf("fill the stream: %v", err)
	}
	b.Logf("%d claims made %d events", claims.Load(), benchEvents)
}

// wish is a claim on one of a hundred items: the first hundred open them, the rest change them.
func wish(n int64) events.Event {
	key, project := fmt.Sprintf("item-%d", n/benchProjects%benchItems), fmt.Sprintf("bench-%d", n%benchProjects)
	t := events.Ticket{Summary: fmt.Sprintf("Search is slow on long words, said for the %dth time", n), Creator: "ann", URI: "/items/" + key}
	e := events.Event{ID: fmt.Sprintf("wish-%d", n), Source: "/bench", Time: time.Now(), Project: project, Phase: events.Plan, Key: key, SubjectID: key, Principal: "local"}
	e.Chain = e.ID
	if n < benchProjects*benchItems {
		e.Content = events.TicketCreated{Ticket: t}
	} else {
		e.Content = events.TicketUpdated{Ticket: t}
	}
	e.Type = events.TypeOf(e.Content)
	return e
}

// post sends a batch of claims.
func post(ctx context.Context, url string, from, n int64) error {
	var body bytes.Buffer
	for i := range n {
		text, err := events.EncodeStructured(wish(from + i))
		if err != nil {
			return err
		}
		if i == 0 {
			body.WriteByte('[')
		} else {
			body.WriteByte(',')
		}
		body.Write(text)
	}
	body.WriteByte(']')
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/events", &body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/cloudevents-batch+json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusAccepted {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		return fmt.Errorf("a batch of claims: %s: %s", response.Status, text)
	}
	return nil
}

// BenchmarkTakeOver measures how long a phase is without decisions when its owner ends: two planners on one nats-server
// with the default lease of 5 s, from the signal to the first fact of the other.
func BenchmarkTakeOver(b *testing.B) {
	dir, err := programs()
	if err != nil {
		b.Fatal(err)
	}
	data, port := b.TempDir(), freePort(b)
	url := fmt.Sprintf("nats://127.0.0.1:%d", port)
	start(b, filepath.Join(dir, "nats-server"), nil, "-js", "-sd", filepath.Join(data, "nats"), "-a", "127.0.0.1", "-p", strconv.Itoa(port))
	owner := startPlanner(b, dir, url, data)
	bus := newBus(b, url)
	var kill, stop []float64
	b.ResetTimer()
	for range b.N {
		for range benchRounds {
			for signal, took := range map[syscall.Signal]*[]float64{syscall.SIGKILL: &kill, syscall.SIGTERM: &stop} {
				next := startPlanner(b, dir, url, data) // ready when it has stood by for a lease
				*took = append(*took, bus.takeOver(b, owner, signal).Seconds())
				owner = next
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(kill), "kill-s")
	b.ReportMetric(median(stop), "stop-s")
}

func startPlanner(b *testing.B, dir, nats, data string) *program {
	b.Helper()
	health := fmt.Sprintf("127.0.0.1:%d", freePort(b))
	p := start(b, filepath.Join(dir, "lemnis-planner"), []string{
		"LEMNIS_NATS_URL=" + nats, "LEMNIS_DATA=" + data, "LEMNIS_HTTP=" + health, "LEMNIS_REDIS_URL=", "LEMNIS_LOG=warn"})
	answers(b, "http://"+health+"/readyz", p)
	return p
}

// bus is what a client sees of the plan phase: its facts, and whom its owners say they are.
type bus struct {
	js     jetstream.JetStream
	seen   chan string // subjects, in order
	claims int64
}

func newBus(b *testing.B, url string) *bus {
	b.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(b.Context(), "LIFECYCLE", jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{"results._.plan.>", "lifecycle.*.plan.>"}, DeliverPolicy: jetstream.DeliverNewPolicy,
	})
	if err != nil {
		b.Fatal(err)
	}
	out := &bus{js: js, seen: make(chan string, 100_000)}
	reading, err := consumer.Consume(func(m jetstream.Msg) { out.seen <- m.Subject() })
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(reading.Stop)
	return out
}

// claim publishes a claim, as a gateway does.
func (bus *bus) claim(ctx context.Context) error {
	e := wish(bus.claims)
	msg, err := events.Encode(e)
	if err != nil {
		return err
	}
	msg.Subject = e.Subject(events.Claim)
	bus.claims++
	_, err = bus.js.PublishMsg(ctx, msg)
	return err
}

// takeOver ends the owner and returns the time to the next owner's first fact. Claims go on coming in between.
func (bus *bus) takeOver(b *testing.B, owner *program, signal syscall.Signal) time.Duration {
	b.Helper()
	await := func(prefix string) {
		b.Helper()
		limit := time.After(time.Minute)
		for {
			select {
			case subject := <-bus.seen:
				if strings.HasPrefix(subject, prefix) {
					return
				}
			case <-limit:
				b.Fatalf("nothing on %s", prefix)
			}
		}
	}
	// The owner is at work before it ends.
	if err := bus.claim(b.Context()); err != nil {
		b.Fatal(err)
	}
	await("lifecycle.")
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				ended <- nil
				return
			case <-tick.C:
				if err := bus.claim(ctx); err != nil && !errors.Is(err, context.Canceled) {
					ended <- err
					return
				}
			}
		}
	}()
	began := time.Now()
	if err := owner.cmd.Process.Signal(signal); err != nil {
		b.Fatal(err)
	}
	await("results._.plan.lemnis-owner.elected.") // after it on the stream, all facts are the next owner's
	await("lifecycle.")
	took := time.Since(began)
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	<-owner.done
	b.Logf("%s: %.3f s", signal, took.Seconds())
	return took
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

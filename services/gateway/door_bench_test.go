package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
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

// The door is measured against the least that could do its work: a handler that reads the body, publishes it with plain
// nats.go under a subject and a message id of the same form, on a stream of the same settings, waits for the ack, and
// answers. It judges nothing and knows nothing again. Both are real servers on loopback sockets, asked by the same client
// with the same bodies; rounds alternate, and ratios are of medians.

const (
	doorConnections = 64
	doorRounds      = 5
	doorRound       = 2 * time.Second
	doorWarm        = 500 * time.Millisecond
)

// BenchmarkDoor is POST /events until the stream has the event, over 64 connections at once.
func BenchmarkDoor(b *testing.B) {
	for _, bus := range []string{"embedded", "loopback"} {
		b.Run(bus, func(b *testing.B) {
			door, bare := newDoorBus(b, bus == "loopback"), newDoorBus(b, bus == "loopback")
			lemnis, plain := newDoorClient(door.serveGateway(b)), newDoorClient(bare.servePlain(b))
			lemnis.round(b, doorWarm)
			plain.round(b, doorWarm)
			var ratios, p99s, p50s, rates, plainRates []float64
			b.ResetTimer()
			for range b.N {
				for range doorRounds {
					got, least := lemnis.round(b, doorRound), plain.round(b, doorRound)
					rates, plainRates = append(rates, got.rate), append(plainRates, least.rate)
					ratios = append(ratios, got.rate/least.rate)
					p50s = append(p50s, got.p50.Seconds()/least.p50.Seconds())
					p99s = append(p99s, got.p99.Seconds()/least.p99.Seconds())
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(middle(rates), "events/s")
			b.ReportMetric(middle(plainRates), "plain-events/s")
			b.ReportMetric(middle(ratios), "ratio")
			b.ReportMetric(middle(p50s), "p50-ratio")
			b.ReportMetric(middle(p99s), "p99-ratio")
		})
	}
}

// BenchmarkDoorAlone is the gateway's half: what a profile of the door is taken of.
func BenchmarkDoorAlone(b *testing.B) {
	client := newDoorClient(newDoorBus(b, false).serveGateway(b))
	client.round(b, doorWarm)
	b.ResetTimer()
	rate := 0.0
	for range b.N {
		rate = client.round(b, doorRound).rate
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(rate, "events/s")
}

func middle(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// doorBus is a bus of its own.
type doorBus struct {
	host service.Host
}

func newDoorBus(b *testing.B, loopback bool) doorBus {
	b.Helper()
	server, err := natsd.Start(natsd.Options{Dir: b.TempDir(), Listen: "127.0.0.1:0"}) // as lemnis up runs it
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Stop)
	var nc *nats.Conn
	if loopback {
		nc, err = nats.Connect(server.URL(), server.ServiceOptions()...)
	} else {
		nc, err = server.Connect()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	folds, err := fold.Embedded("")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = folds.Close() })
	host, err := service.NewHost(b.Context(), nc, folds, 1, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	return doorBus{host}
}

// serveGateway runs a gateway and returns its address.
func (d doorBus) serveGateway(b *testing.B) string {
	b.Helper()
	g, err := gateway.New(gateway.Options{Host: d.host})
	if err != nil {
		b.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = g.Run(ctx) })
	running.Go(func() { _ = g.Serve(ctx, listener) })
	b.Cleanup(func() { cancel(); running.Wait() })
	for deadline := time.Now().Add(patience); g.Ready() != ""; <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatal(g.Ready())
		}
	}
	return listener.Addr().String()
}

// servePlain serves the least.
func (d doorBus) servePlain(b *testing.B) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /events", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		id := r.Header.Get("X-Bench-Id")
		m := &nats.Msg{Subject: "claims.shop.plan.ticket.created." + id, Data: body, Header: nats.Header{nats.MsgIdHdr: {id}}}
		ack, err := d.host.JS.PublishMsg(r.Context(), m)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_, _ = fmt.Fprintf(w, "{\"sequence\":%d}\n", ack.Sequence)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	b.Cleanup(func() { _ = server.Close(); <-done })
	return listener.Addr().String()
}

// doorClient asks one server over connections that it keeps.
type doorClient struct {
	url  string
	http *http.Client
	next atomic.Int64
	head []byte // of a structured event, up to the number in its id
	rest [][]byte
}

const doorID = "claim-0000000000"

func newDoorClient(address string) *doorClient {
	e := ticket("item-0000000000", "Search is slow on long words, said for the nth time")
	e.ID = doorID
	text, err := events.EncodeStructured(e)
	if err != nil {
		panic(err)
	}
	parts := bytes.Split(text, []byte("0000000000"))
	return &doorClient{
		url: "http://" + address + "/events", head: parts[0], rest: parts[1:],
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: doorConnections, MaxConnsPerHost: doorConnections}},
	}
}

type doorRates struct {
	rate     float64 // events a second
	p50, p99 time.Duration
}

// round posts events for a while, each of its own id about an item of its own.
func (c *doorClient) round(b *testing.B, while time.Duration) doorRates {
	b.Helper()
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	var senders sync.WaitGroup
	began := time.Now()
	for range doorConnections {
		senders.Go(func() {
			var took []time.Duration
			var err error
			for err == nil && time.Since(began) < while {
				at := time.Now()
				err = c.post()
				took = append(took, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			all, failed = append(all, took...), errors.Join(failed, err)
		})
	}
	senders.Wait()
	lasted := time.Since(began)
	if failed != nil {
		b.Fatal(failed)
	}
	slices.Sort(all)
	return doorRates{float64(len(all)) / lasted.Seconds(), all[len(all)/2], all[len(all)*99/100]}
}

func (c *doorClient) post() error {
	n := c.next.Add(1)
	number := fmt.Sprintf("%010d", n)
	var body bytes.Buffer
	body.Write(c.head)
	for _, part := range c.rest {
		body.WriteString(number)
		body.Write(part)
	}
	r, err := http.NewRequest(http.MethodPost, c.url, &body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/cloudevents+json")
	r.Header.Set("X-Bench-Id", strconv.FormatInt(n, 10))
	response, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("%s: %s", response.Status, text)
	}
	return err
}

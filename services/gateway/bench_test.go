package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/pkg/events"
)

// BenchmarkClaim is one event over HTTP until it is acknowledged.
func BenchmarkClaim(b *testing.B) {
	w := newWorld(b)
	e := ticket("t1", "Search is slow")
	text, err := events.EncodeStructured(e)
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for i := range b.N {
		body := strings.ReplaceAll(string(text), e.ID, fmt.Sprintf("id-%d", i))
		resp, err := http.Post(w.url+"/events", "application/cloudevents+json", strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			b.Fatal(resp.Status)
		}
	}
}

// BenchmarkModels is a start on a stream of 100,000 events: with an empty store, and with what an earlier run saved.
func BenchmarkModels(b *testing.B) {
	const many = 100_000
	w := newWorld(b)
	w.stop()
	var last jetstream.PubAckFuture
	for i := range many {
		e := fact("shop", fmt.Sprintf("t%d", i%1000), events.Plan, ticket("t", "Search is slow").Content)
		e.Chain = fmt.Sprintf("chain-%d", i/20)
		m, err := events.Encode(e)
		if err != nil {
			b.Fatal(err)
		}
		m.Subject = e.Subject(events.Stated)
		if last, err = w.host.JS.PublishMsgAsync(m); err != nil {
			b.Fatal(err)
		}
	}
	<-last.Ok()
	use := func(b *testing.B, dir string) *fold.Store {
		folds, err := fold.Embedded(dir)
		if err != nil {
			b.Fatal(err)
		}
		w.host.Folds = folds
		return folds
	}
	b.Run("cold", func(b *testing.B) {
		busy := time.Duration(0)
		for range b.N {
			folds, before := use(b, ""), processor(b)
			w.start()
			b.StopTimer()
			busy += processor(b) - before
			w.stop()
			_ = folds.Close()
			b.StartTimer()
		}
		b.ReportMetric(float64(busy.Milliseconds())/float64(b.N), "cpu-ms/op")
	})
	b.Run("warm", func(b *testing.B) {
		dir := b.TempDir()
		folds := use(b, dir)
		w.start()
		w.stop()
		if err := folds.Close(); err != nil {
			b.Fatal(err)
		}
		b.ResetTimer()
		busy := time.Duration(0)
		for range b.N {
			before := processor(b)
			folds := use(b, dir) // with the time to read the snapshot
			w.start()
			b.StopTimer()
			busy += processor(b) - before
			w.stop()
			_ = folds.Close()
			b.StartTimer()
		}
		b.ReportMetric(float64(busy.Milliseconds())/float64(b.N), "cpu-ms/op")
	})
}

// processor is the time that this process has had: what a start costs also where others want the processors.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

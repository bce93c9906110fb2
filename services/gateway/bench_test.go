package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

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

// BenchmarkReady is a start, with an empty store, on a stream of 100,000 events.
func BenchmarkReady(b *testing.B) {
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
	b.ResetTimer()
	for range b.N {
		folds, err := fold.Embedded("")
		if err != nil {
			b.Fatal(err)
		}
		w.host.Folds = folds
		w.start()
		w.stop()
		_ = folds.Close()
	}
}

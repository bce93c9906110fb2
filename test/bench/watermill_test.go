package bench

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

const (
	watermillRounds = 3
	watermillClaims = 20_000
	aggregates      = 1_000
	// subscribers is how many messages the router works on at once: as many as the runtime.
	subscribers = events.Partitions
)

// route runs a Watermill router that reads the claims, decodes each, and publishes the same as a fact, encoded anew: the
// JSON work of the runtime, without order, fence, folds or anything else of it.
func route(ctx context.Context, nc *nats.Conn, ready chan<- struct{}) error {
	log := watermill.NopLogger{}
	sub, err := wmnats.NewSubscriberWithNatsConn(nc, wmnats.SubscriberSubscriptionConfig{
		SubscribersCount: subscribers, QueueGroupPrefix: "bench", Unmarshaler: &wmnats.NATSMarshaler{},
		JetStream: wmnats.JetStreamConfig{
			DurablePrefix: "bench", TrackMsgId: true, // acks are waited for, which is the default
			SubscribeOptions: []nats.SubOpt{nats.BindStream(natsd.Lifecycle), nats.DeliverAll(), nats.AckExplicit()},
		},
	}, log)
	if err != nil {
		return err
	}
	pub, err := wmnats.NewPublisherWithNatsConn(nc, wmnats.PublisherPublishConfig{
		Marshaler: &wmnats.NATSMarshaler{}, SubjectCalculator: wmnats.DefaultSubjectCalculator, JetStream: wmnats.JetStreamConfig{TrackMsgId: true},
	}, log)
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{}, log)
	if err != nil {
		return err
	}
	router.AddConsumerHandler("decide", "claims.*.plan.*.*.*", sub, func(claim *message.Message) error {
		header := make(nats.Header, len(claim.Metadata))
		for name, value := range claim.Metadata {
			header[name] = []string{value}
		}
		e, err := events.Decode(header, claim.Payload)
		if err != nil {
			return err
		}
		e.Cause, e.Aggregate = e.ID, "item"
		e.ID = events.FactID("bench", 1, e.Aggregate, e.Project, e.ID, e.Type)
		e.Links = []events.Link{{Type: events.Path, Context: e.Cause}}
		msg, err := events.Encode(e)
		if err != nil {
			return err
		}
		fact := message.NewMessage(e.ID, msg.Data)
		for name, value := range msg.Header {
			fact.Metadata[name] = value[0]
		}
		return pub.Publish(e.Subject(events.Stated), fact)
	})
	go func() {
		<-router.Running()
		close(ready)
	}()
	return router.Run(ctx)
}

// decided is facts a second over claims that wait already, from the first fact to the last one.
func decided(b *testing.B, loopback, withWatermill bool) float64 {
	b.Helper()
	bus := embedded(b, loopback)
	defer bus.end()
	bus.publish(b, watermillClaims, func(i int) *nats.Msg { return encoded(ticket(i, aggregates), events.Claim) })
	filled := bus.last(b)
	rate := func() float64 {
		first := bus.awaitEnd(b, filled+2) // the runtime puts one before them, that says who owns the phase
		began := time.Now()
		end := bus.awaitEnd(b, filled+watermillClaims)
		return float64(end-first) / time.Since(began).Seconds()
	}
	if !withWatermill {
		_, stop := bus.run(b)
		defer stop()
		return rate()
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended, ready := make(chan error, 1), make(chan struct{})
	go func() { ended <- route(ctx, bus.nc, ready) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
	}()
	select {
	case <-ready:
	case err := <-ended:
		b.Fatalf("the router ended: %v", err)
	}
	return rate()
}

// BenchmarkWatermill compares decisions of the runtime with those of a Watermill router on the same server.
func BenchmarkWatermill(b *testing.B) {
	for name, loopback := range map[string]bool{"embedded": false, "loopback": true} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				var ours, theirs []float64
				for range watermillRounds {
					theirs = append(theirs, decided(b, loopback, true))
					ours = append(ours, decided(b, loopback, false))
				}
				b.ReportMetric(median(ours)/median(theirs), "ratio")
				b.ReportMetric(median(ours), "facts/s")
				b.ReportMetric(median(theirs), "watermill/s")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

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
)

// route runs a Watermill router that reads the claims, decodes each, and publishes the same as a fact, encoded anew: the
// JSON work of the runtime, without fence, folds or anything else of it. One subscriber, the router's default, keeps the
// order of each aggregate's events, as the runtime does; several work on as many messages at once, in any order.
func route(ctx context.Context, nc *nats.Conn, subscribers int, ready chan<- struct{}) error {
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

// decided is facts a second over claims that wait already, from the first fact to the last one: of a router with so many
// subscribers, or of the runtime for 0.
func decided(b *testing.B, loopback bool, subscribers int) float64 {
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
	if subscribers == 0 {
		_, stop := bus.run(b)
		defer stop()
		return rate()
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended, ready := make(chan error, 1), make(chan struct{})
	go func() { ended <- route(ctx, bus.nc, subscribers, ready) }()
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

// BenchmarkWatermill compares decisions of the runtime with those of Watermill routers on the same server: one that keeps
// the order, and one that works on as many messages at once as the runtime but in no order.
func BenchmarkWatermill(b *testing.B) {
	for name, loopback := range map[string]bool{"embedded": false, "loopback": true} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				var ours, inOrder, unordered []float64
				for range watermillRounds {
					inOrder = append(inOrder, decided(b, loopback, 1))
					ours = append(ours, decided(b, loopback, 0))
					unordered = append(unordered, decided(b, loopback, events.Partitions))
				}
				b.ReportMetric(median(ours)/median(inOrder), "ratio")
				b.ReportMetric(median(ours)/median(unordered), "unordered-ratio")
				b.ReportMetric(median(ours), "facts/s")
				b.ReportMetric(median(inOrder), "watermill/s")
				b.ReportMetric(median(unordered), "unordered/s")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

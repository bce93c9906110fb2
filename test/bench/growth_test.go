package bench

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/pkg/events"
)

const (
	growthWindows = 45   // at each size: one takes some 50 ms, or twice as long
	growthClaims  = 1000 // in a window; each makes a fact
	growthBatch   = 20_000
	// growthLook is how exactly the end of a window is seen: it takes some 60 ms.
	growthLook = 2 * time.Millisecond
)

// growing is a service on a nats-server of its own.
type growing struct {
	testBus
	server natsServer
	claims int
}

func startGrowing(b *testing.B) *growing {
	b.Helper()
	server := startNATS(b)
	nc, err := nats.Connect(server.url)
	if err != nil {
		b.Fatal(err)
	}
	g := &growing{testBus: hosted(b, nc), server: server}
	b.Cleanup(nc.Close)
	_, stop := g.run(b)
	b.Cleanup(stop)
	return g
}

// decide has so many claims decided, each by a fact. Of ten events five are claims, which all are on one new aggregate.
func (g *growing) decide(b *testing.B, n int) time.Duration {
	b.Helper()
	began, end := time.Now(), uint64(2*(g.claims+n)+1)
	g.publish(b, n, func(i int) *nats.Msg {
		e := ticket((g.claims+i)/5, g.claims+n)
		e.ID = ticket(g.claims+i, 1).ID
		return encoded(e, events.Claim)
	})
	g.claims += n
	g.watchEnd(b, end, growthLook)
	return time.Since(began)
}

func (g *growing) grow(b *testing.B, claims int) {
	b.Helper()
	for g.claims < claims {
		g.decide(b, min(growthBatch, claims-g.claims))
	}
}

// BenchmarkGrowth measures the time that an event takes at a stream of 10,000, 100,000 and 1,000,000 events, in which one
// in ten begins a new aggregate: on three streams, each on a server of its own, in turn, so that what else goes on meets
// all three. A stream is of its size in the middle of its windows: of the smallest, which would double by them, five follow one
// another. Then what memory the server of the largest holds more than when it was empty.
func BenchmarkGrowth(b *testing.B) {
	sizes := []int{10_000, 100_000, 1_000_000}
	b.ResetTimer()
	for range b.N {
		streams, took := make([]*growing, len(sizes)), make([][]time.Duration, len(sizes))
		var empty float64
		for window := range growthWindows {
			for i, size := range sizes {
				windows := min(growthWindows, size*9/10/growthClaims)
				if window%windows == 0 {
					streams[i] = startGrowing(b)
					if i == len(sizes)-1 {
						empty = residentMiB(b, streams[i].server.pid)
					}
					streams[i].grow(b, size/2-windows*growthClaims/2)
				}
			}
			for i := range streams {
				took[i] = append(took[i], streams[i].decide(b, growthClaims))
			}
		}
		each := func(i int) float64 { return float64(median(took[i]).Nanoseconds()) / (2 * growthClaims) / 1e3 }
		b.ReportMetric(max(each(1), each(2))/each(0), "ratio")
		b.ReportMetric(each(0), "10k-µs/event")
		b.ReportMetric(each(1), "100k-µs/event")
		b.ReportMetric(each(2), "1M-µs/event")
		largest := streams[2].server
		b.ReportMetric(residentMiB(b, largest.pid)-empty, "at-once-MiB")
		b.ReportMetric(largest.settledMiB(b)-empty, "MiB")
	}
	b.ReportMetric(0, "ns/op")
}

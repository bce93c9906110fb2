package deployer

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/pkg/events"
)

// BenchmarkScale takes artifacts of 1,000 services through three environments each, on the real bus, with another tool at the target
// that says at once that it has deployed, by a claim: the deployer's own part is what is left. Each reaction is measured on the stream, from when
// what caused it was stored to when it was. Memory is that of the whole process, the bus and the tool in it too.
func BenchmarkScale(b *testing.B) {
	const count = 1000
	every := 30 * time.Millisecond // 33 artifacts, 100 rollouts a second
	for range b.N {
		bus := newBus(b, 3*time.Minute)
		b.Cleanup(bus.run(Options{Data: b.TempDir()}))
		p := testProject("dev", "test", "live")
		for i := range p.Environments {
			p.Environments[i] = events.Environment{Name: p.Environments[i].Name, Target: events.OutsideTarget, Gate: events.Gate{Tests: "passed"},
				Outside: &events.Outside{Owner: "recorder", Deadline: events.Duration(10 * time.Minute)}}
		}
		bus.configure(p)
		all, err := bus.host.JS.OrderedConsumer(bus.ctx, natsd.Lifecycle, jetstream.OrderedConsumerConfig{FilterSubjects: []string{"lifecycle.shop.>", "claims.shop.deploy.>"}})
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for i := range count {
				digest := fmt.Sprintf("sha256:%064x", i)
				bus.publish(events.ArtifactDetail{ID: "pkg:generic/s" + strconv.Itoa(i), Service: "s" + strconv.Itoa(i), Reference: "127.0.0.1:1/shop/s@" + digest,
					Digest: digest, Author: "ann", Change: strconv.Itoa(i), Evidence: &events.Evidence{Run: "r", Tests: 2, Coverage: 80}})
				<-tick.C
			}
		}()
		stored, took, began := map[string]time.Time{}, map[string][]time.Duration{}, time.Now()
		for done := 0; done < count; {
			m, err := all.Next(jetstream.FetchContext(bus.ctx))
			if err != nil {
				b.Fatalf("%d of %d services are in all environments: %v", done, count, err)
			}
			at, err := m.Metadata()
			if err != nil {
				b.Fatal(err)
			}
			e, err := events.Decode(m.Headers(), m.Data())
			if err != nil {
				b.Fatal(err)
			}
			stored[e.ID] = at.Timestamp
			cause, known := stored[e.Cause]
			if known && e.Phase == events.Deploy {
				took[e.Type.Short()] = append(took[e.Type.Short()], at.Timestamp.Sub(cause))
			}
			switch c := e.Content.(type) {
			case events.DeploymentStarted:
				r := c.Rollout
				says := events.Event{Project: "shop", Phase: events.Deploy, Principal: "recorder", ID: "deployed-" + r.Environment + r.Service, Source: "/test", Time: time.Now(),
					Type: events.TypeOf(events.ServiceDeployed{}), SubjectID: r.Service,
					Content: events.ServiceDeployed{Environment: events.Reference{ID: r.Environment}, ArtifactID: r.Artifact.ID, Lemnis: events.ServiceDetail{
						URL: "https://" + r.Service + "." + r.Environment, Rollout: events.Rollout{Environment: r.Environment, Service: r.Service, Artifact: events.ArtifactDetail{Digest: r.Artifact.Digest}}}}}
				msg, err := events.Encode(says)
				if err != nil {
					b.Fatal(err)
				}
				msg.Subject = says.Subject(events.Claim)
				if _, err := bus.host.JS.PublishMsgAsync(msg); err != nil {
					b.Fatal(err)
				}
			case events.ServicePublished:
				if c.Environment.ID == "live" {
					done++
				}
			case events.ClaimRefused, events.DeploymentFailed:
				b.Fatalf("%s: %+v", e.Key, c)
			}
		}
		worst := time.Duration(0)
		for _, kind := range slices.Sorted(maps.Keys(took)) {
			v := took[kind]
			slices.Sort(v)
			p99 := v[len(v)*99/100]
			worst = max(worst, p99)
			fmt.Printf("| %s, %d of them | median %s, p99 %s, longest %s |\n", kind, len(v), v[len(v)/2].Round(100*time.Microsecond), p99.Round(100*time.Microsecond), v[len(v)-1].Round(100*time.Microsecond))
		}
		memory := peakMemory(b)
		fmt.Printf("| %d services through 3 environments | %s, memory %d MiB at its highest, the bus within it |\n", count, time.Since(began).Round(time.Second), memory>>20)
		b.ReportMetric(float64(worst)/float64(time.Millisecond), "worst-p99-ms")
		b.ReportMetric(float64(memory)/(1<<20), "MiB")
		b.ReportMetric(0, "ns/op")
		if worst >= time.Second || memory >= 512<<20 || len(took) == 0 {
			b.Errorf("p99 %s, %d MiB; asked for: under 1 s and 512 MiB", worst, memory>>20)
		}
	}
}

// peakMemory is what the process had at its highest, in bytes.
func peakMemory(b *testing.B) int64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, is := strings.CutPrefix(line, "VmHWM:"); is {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib << 10
		}
	}
	b.Fatal("the kernel does not say how much memory the process has")
	return 0
}

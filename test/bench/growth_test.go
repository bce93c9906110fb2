package bench

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lemnis/lemnis/pkg/events"
)

const (
	growthWindows = 5
	growthClaims  = 500 // in a window; each makes a fact
)

// BenchmarkGrowth measures the time that an event takes at a stream of 10,000, 100,000 and 1,000,000 events, in which one
// in ten begins a new aggregate, and what memory the server, a process of its own, then holds more than when it was empty.
func BenchmarkGrowth(b *testing.B) {
	pid, url := natsServer(b)
	empty := residentMiB(b, pid)
	nc, err := nats.Connect(url)
	if err != nil {
		b.Fatal(err)
	}
	bus := hosted(b, nc)
	b.Cleanup(nc.Close)
	_, stop := bus.run(b)
	defer stop()
	claims := 0
	decide := func(n int) time.Duration {
		began, end := time.Now(), uint64(2*(claims+n)+1)
		// Of ten events five are claims, which all are on one new aggregate.
		bus.publish(b, n, func(i int) *nats.Msg {
			e := ticket(claims+i, 1)
			e.Key = "item-" + strconv.Itoa((claims+i)/5)
			e.SubjectID = e.Key
			return encoded(e, events.Claim)
		})
		claims += n
		bus.awaitEnd(b, end)
		return time.Since(began)
	}
	at := func(size int) float64 {
		for 2*claims < size-2*growthWindows*growthClaims {
			decide(min(20_000, size/2-growthWindows*growthClaims-claims))
		}
		var took []time.Duration
		for range growthWindows {
			took = append(took, decide(growthClaims))
		}
		return float64(median(took).Nanoseconds()) / (2 * growthClaims) / 1e3
	}
	b.ResetTimer()
	for range b.N {
		small, middle, large := at(10_000), at(100_000), at(1_000_000)
		b.ReportMetric(max(middle, large)/small, "ratio")
		b.ReportMetric(small, "10k-µs/event")
		b.ReportMetric(middle, "100k-µs/event")
		b.ReportMetric(large, "1M-µs/event")
	}
	b.ReportMetric(residentMiB(b, pid)-empty, "MiB")
	b.ReportMetric(0, "ns/op")
}

// natsServer builds and starts a plain nats-server, and returns its process and address.
func natsServer(b *testing.B) (pid int, url string) {
	b.Helper()
	dir := b.TempDir()
	program := filepath.Join(dir, "nats-server")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		b.Fatalf("build nats-server: %v: %s", err, out)
	}
	server := exec.Command(program, "-js", "-sd", filepath.Join(dir, "data"), "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", dir)
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	file := filepath.Join(dir, "nats-server_"+strconv.Itoa(server.Process.Pid)+".ports")
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		text, err := os.ReadFile(file)
		var ports struct {
			NATS []string `json:"nats"`
		}
		if err == nil && json.Unmarshal(text, &ports) == nil && len(ports.NATS) > 0 {
			return server.Process.Pid, ports.NATS[0]
		}
		if time.Now().After(deadline) {
			b.Fatalf("the nats-server does not say where it listens: %v", err)
		}
	}
}

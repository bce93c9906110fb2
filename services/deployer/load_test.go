package deployer

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/lemnis/lemnis/pkg/events"
)

// BenchmarkRollout takes versions through a canary on the real bus, with a front of its own process, under a steady load: good ones to all
// users, bad ones back. It prints what users noticed.
func BenchmarkRollout(b *testing.B) {
	const rounds = 5
	for range b.N {
		bus := newBus(b, 5*time.Minute)
		stop := bus.run(Options{Data: b.TempDir(), Front: []string{os.Args[0]}, Alone: time.Minute, Grace: 5 * time.Second})
		b.Cleanup(stop) // before the bus ends
		p := testProject("prod")
		p.Environments[0].Canary.Deadline = events.Duration(20 * time.Second)
		bus.configure(p)
		shelf := newShelf(b)
		v0 := shelf.put(b, "v0", "good")
		bus.publish(v0)
		address := url(bus.await("v0", published("prod", v0.Digest)))
		out, back, requests, failed := []time.Duration{}, []time.Duration{}, 0, 0
		for i := range rounds {
			for _, mode := range []string{"good", "bad"} {
				version := fmt.Sprintf("v%d-%s", i+1, mode)
				a := shelf.put(b, version, mode)
				crowd := traffic(address, 500)
				bus.publish(a)
				if mode == "good" {
					began := bus.await("start of "+version, is[events.DeploymentStarted])
					out = append(out, bus.await(version, published("prod", a.Digest)).Stored.Sub(began.Stored))
				} else {
					judged := bus.await("verdict on "+version, is[events.CanaryJudged])
					bus.await("rollback of "+version, is[events.ServiceRolledback])
					crowd.mu.Lock()
					back = append(back, crowd.last[version].Sub(judged.Stored))
					crowd.mu.Unlock()
				}
				crowd.stop()
				requests += crowd.total
				for status, n := range crowd.status {
					if status != http.StatusOK && (mode == "good" || status != http.StatusInternalServerError) {
						failed += n
					}
				}
			}
		}
		slices.Sort(out)
		slices.Sort(back)
		fmt.Printf("| rollouts and rollbacks under load, %d of each | %d requests, %d failed but for the bad version's own answers |\n", rounds, requests, failed)
		fmt.Printf("| from started to all users | median %s, longest %s |\n", out[rounds/2].Round(time.Millisecond), out[rounds-1].Round(time.Millisecond))
		// Below zero: the last one went there before the verdict was stored.
		fmt.Printf("| from the verdict to the last request that went to the bad version | median %s, longest %s |\n", back[rounds/2].Round(100*time.Microsecond), back[rounds-1].Round(100*time.Microsecond))
		if failed > 0 || back[rounds-1] >= 200*time.Millisecond {
			b.Errorf("%d requests failed; users were on a bad version for %s", failed, back[rounds-1])
		}
	}
}

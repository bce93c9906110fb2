package integration_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/lemnis/lemnis/internal/trace/tracetest"
)

// The six services as programs of their own, on a plain nats-server and a redis-server, turn the same lap, and tell one receiver of it.
func TestLapOfSinglePrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in short mode: takes half a minute, so a lap of single programs was NOT run")
	}
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("SKIPPED: there is no redis-server on the PATH, so the single programs were NOT tried together")
	}
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	nats, http := freePort(t), freePort(t)
	socket := filepath.Join(data, "redis.sock")
	start(t, redis, nil, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", data)
	start(t, filepath.Join(dir, "nats-server"), nil, "-js", "-sd", filepath.Join(data, "nats"), "-a", "127.0.0.1", "-p", fmt.Sprint(nats))

	url := fmt.Sprintf("http://127.0.0.1:%d", http)
	traces := tracetest.New(t)
	env := func(health string) []string {
		return append(tracing(traces),
			fmt.Sprintf("LEMNIS_NATS_URL=nats://127.0.0.1:%d", nats), "LEMNIS_REDIS_URL=unix://"+socket, "LEMNIS_REGISTRY_URL="+url,
			"LEMNIS_SECRETS_DIR="+filepath.Join(data, "secrets"), "LEMNIS_DATA="+data, "LEMNIS_HTTP="+health, "LEMNIS_LOG=debug", "LEMNIS_ALLOW_PRIVATE_SINKS=127.0.0.0/8")
	}
	waitForSocket(t, socket)
	var all []*program
	gateway := start(t, filepath.Join(dir, "lemnis-gateway"), env(fmt.Sprintf("127.0.0.1:%d", http)))
	answers(t, url+"/readyz", gateway)
	for _, name := range []string{"planner", "builder", "deployer", "monitor", "feedback"} {
		health := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		p := start(t, filepath.Join(dir, "lemnis-"+name), env(health))
		answers(t, "http://"+health+"/readyz", p)
		all = append(all, p)
	}
	result := turn(t, url, shop(t))
	eachFactOnce(t, result.Events)
	eachSigned(t, result.Events)
	oneTraceAChain(t, traces, result)
	logsNameTraces(t, traces, all)
}

package integration_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/cmd/lemnis/lap"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// installationBefore is the version that a rolling restart begins with: a commit at which all services can be built. A release moves
// it to the one before itself.
const installationBefore = "c48da39a9d7b8b4ed92c2e44a922a6d32d12352c"

// rollingVariable asks for the rolling restart; make test-rolling sets it.
const rollingVariable = "LEMNIS_TEST_ROLLING"

// longestPause is how long nothing may be published while one server after the other is started again.
const longestPause = 10 * time.Second

// An installation of the version before, two of each service on three NATS servers, becomes today's under load: program after
// program, then server after server, is asked to end and started again. The laps that are under way close, each fact is there
// once, every claim of a steady load has its one answer, and publishing does not pause for long.
func TestRollingRestart(t *testing.T) {
	if os.Getenv(rollingVariable) == "" {
		t.Skipf("SKIPPED: services and NATS servers were NOT restarted in turn, nor the version before replaced; make test-rolling does, which sets %s", rollingVariable)
	}
	names := []string{"gateway", "planner", "builder", "deployer", "monitor", "feedback"}
	before := programsOf(t, installationBefore, names...)
	today, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	// What asks the cluster begins with it: it finds no leader yet.
	servers := startServers(t, filepath.Join(today, "nats-server"), 3)
	nc, err := nats.Connect(servers.urls(), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	host, err := service.NewHost(t.Context(), nc, embeddedFolds(t), 3, zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)))
	if err != nil {
		t.Fatal(err)
	}

	data, redis := t.TempDir(), ""
	if path, err := exec.LookPath("redis-server"); err == nil {
		socket := filepath.Join(data, "redis.sock")
		start(t, path, nil, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", data)
		waitForSocket(t, socket)
		redis = "unix://" + socket
	}
	url := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	run := func(folder, name string, copied int) (*program, string) {
		health := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		if name == "gateway" && copied == 0 {
			health = strings.TrimPrefix(url, "http://")
		}
		return start(t, filepath.Join(folder, "lemnis-"+name), []string{
			"LEMNIS_NATS_URL=" + servers.urls(), "LEMNIS_REPLICAS=3", "LEMNIS_REDIS_URL=" + redis, "LEMNIS_REGISTRY_URL=" + url,
			"LEMNIS_DATA=" + filepath.Join(data, name), "LEMNIS_HTTP=" + health, "LEMNIS_LOG=warn",
		}), "http://" + health
	}
	running := map[string][]*program{}
	for _, name := range names {
		for i := range 2 {
			p, at := run(before, name, i)
			answers(t, at+"/readyz", p)
			running[name] = append(running[name], p)
		}
	}

	loading, enough := context.WithCancel(t.Context())
	defer enough()
	var load, laps sync.WaitGroup
	steady := &steady{host: host}
	load.Go(func() { steady.run(loading, t) })
	turns := map[string]func() (lap.Result, error){"services": lapOn(t, url, "shop-services"), "servers": lapOn(t, url, "shop-servers")}
	begin := func(while string) {
		laps.Go(func() {
			result, err := turns[while]()
			if err != nil {
				t.Errorf("the lap over the restart of the %s did not close: %v", while, err)
				return
			}
			t.Logf("the lap over the restart of the %s: %d events; users sent %d requests, %d failed", while, len(result.Events), result.Requests, result.Failed)
			eachFactOnce(t, result.Events)
		})
	}

	begin("services")
	for _, name := range names {
		for i, old := range running[name] {
			began := time.Now()
			end(t, old)
			p, at := run(today, name, i)
			answers(t, at+"/readyz", p)
			t.Logf("%s %d is today's, ready after %s; longest pause %s", name, i, time.Since(began).Round(time.Millisecond), steady.pause())
		}
	}
	laps.Wait()

	begin("servers")
	for i := range servers.all {
		began := time.Now()
		servers.restart(t, i)
		servers.whole(t, host)
		t.Logf("server %d is back and up to date after %s; longest pause %s", i, time.Since(began).Round(time.Millisecond), steady.pause())
	}
	laps.Wait()

	enough()
	load.Wait()
	awaitFloors(t, host, 1, claimTicket(t, host, "M-last"))
	once(t, host)
	t.Logf("%d claims, each answered once; publishing paused for %s at most", steady.claimed.Load(), steady.pause())
	if pause := steady.pause(); pause > longestPause {
		t.Errorf("nothing could be published for %s; %s at most", pause, longestPause)
	}
}

// lapOn prepares a lap in a project of its own.
func lapOn(t *testing.T, url, project string) func() (lap.Result, error) {
	subject := shop(t)
	subject.Project.Name = project
	for i := range subject.Project.Environments {
		subject.Project.Environments[i].Gate.Signature = "" // the version before signs nothing
	}
	return func() (lap.Result, error) {
		client := api.New(url)
		defer client.Close()
		began := time.Now()
		return lap.New(client, subject, lap.Options{Patience: 3, Tell: func(step int, text string) {
			t.Logf("%5.1fs %2d %s", time.Since(began).Seconds(), step, text)
		}}).Run(t.Context())
	}
}

// steady claims a ticket every now and then, each until it is acknowledged.
type steady struct {
	host    service.Host
	claimed atomic.Int64
	longest atomic.Int64 // nanoseconds between two acknowledgements
}

func (s *steady) pause() time.Duration {
	return time.Duration(s.longest.Load()).Round(time.Millisecond)
}

func (s *steady) run(ctx context.Context, t *testing.T) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		// In many projects: a backlog that grows for ever is not what this is about.
		e := events.New(fmt.Sprintf("steady-%d", n%50), fmt.Sprintf("S-%d", n), events.TicketCreated{Ticket: events.Ticket{Summary: "steady", Creator: "ann", URI: "https://example.org/steady"}})
		e.ID, e.Source, e.Time, e.Phase, e.Principal, e.Chain = e.Key, "/test", time.Now(), events.Plan, "local", e.Key
		m, err := events.Encode(e)
		if err != nil {
			t.Error(err)
			return
		}
		m.Subject = e.Subject(events.Claim)
		m.Header[nats.MsgIdHdr] = []string{events.ClaimMessageID(e.Principal, e.Source, e.ID)}
		for {
			once, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			_, err := s.host.JS.PublishMsg(once, m)
			cancel()
			if err == nil {
				break
			}
			if time.Since(last) > time.Minute {
				t.Errorf("nothing can be published any more: %v", err)
				return
			}
		}
		now := time.Now()
		s.longest.Store(max(s.longest.Load(), int64(now.Sub(last))))
		last = now
		s.claimed.Add(1)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// servers are a cluster of NATS servers in processes of their own.
type servers struct {
	command string
	files   []string // configurations
	at      []string // for clients
	all     []*program
}

func startServers(t *testing.T, command string, n int) *servers {
	t.Helper()
	s := &servers{command: command}
	dir, routes := t.TempDir(), make([]string, n)
	for i := range n {
		s.at = append(s.at, fmt.Sprintf("nats://127.0.0.1:%d", freePort(t)))
		routes[i] = fmt.Sprintf("nats://127.0.0.1:%d", freePort(t))
	}
	for i := range n {
		file := filepath.Join(dir, fmt.Sprintf("n%d.conf", i))
		text := fmt.Sprintf("server_name: n%d\nlisten: %q\njetstream { store_dir: %q }\ncluster { name: lemnis, listen: %q, routes: [%q] }\n", i,
			strings.TrimPrefix(s.at[i], "nats://"), filepath.Join(dir, fmt.Sprint(i)), strings.TrimPrefix(routes[i], "nats://"), strings.Join(routes, `", "`))
		text = strings.ReplaceAll(text, `\"`, `"`)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.files = append(s.files, file)
		s.all = append(s.all, start(t, command, nil, "-c", file))
	}
	return s
}

func (s *servers) urls() string { return strings.Join(s.at, ",") }

// restart asks a server to end, waits, and starts it again.
func (s *servers) restart(t *testing.T, i int) {
	t.Helper()
	if err := s.all[i].cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.all[i].done:
	case <-time.After(40 * time.Second):
		t.Fatalf("server %d does not end on SIGTERM", i)
	}
	s.all[i] = start(t, s.command, nil, "-c", s.files[i])
}

// whole waits until every copy of LIFECYCLE is up to date: only then may the next server end.
func (s *servers) whole(t *testing.T, host service.Host) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		st, err := host.JS.Stream(ctx, natsd.Lifecycle)
		cancel()
		current := 1
		if err == nil && st.CachedInfo().Cluster != nil {
			for _, r := range st.CachedInfo().Cluster.Replicas {
				if r.Current && !r.Offline {
					current++
				}
			}
		}
		if current == len(s.all) {
			tick.Stop()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d copies are up to date: %v", current, len(s.all), err)
		}
	}
}

package natsd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o natsd.Options) *natsd.Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s, err := natsd.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func connect(t *testing.T, dial func(...nats.Option) (*nats.Conn, error), opts ...nats.Option) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := dial(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

func ensure(t *testing.T, js jetstream.JetStream, replicas int) string {
	t.Helper()
	id, err := natsd.EnsureStreams(t.Context(), js, replicas)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestStartRefuses(t *testing.T) {
	for name, o := range map[string]natsd.Options{
		"no folder":          {},
		"every interface":    {Dir: t.TempDir(), Listen: ":4222"},
		"another address":    {Dir: t.TempDir(), Listen: "192.0.2.1:4222"},
		"unknown durability": {Dir: t.TempDir(), Durability: "perhaps"},
		"nameless member":    {Dir: t.TempDir(), Cluster: &natsd.ClusterOptions{Name: "c", Listen: "127.0.0.1:0"}},
	} {
		if s, err := natsd.Start(o); err == nil {
			s.Stop()
			t.Errorf("%s: started", name)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	if s, err := natsd.Start(natsd.Options{Dir: t.TempDir(), Listen: taken.Addr().String()}); !errors.Is(err, syscall.EADDRINUSE) {
		if err == nil {
			s.Stop()
		}
		t.Errorf("at an address that is taken: %v", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, natsd.KeyFile), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err := natsd.Start(natsd.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "read by others") {
		if err == nil {
			s.Stop()
		}
		t.Errorf("with an open key file: %v", err)
	}
}

func TestRestartKeepsIdentityEventsAndKey(t *testing.T) {
	dir := t.TempDir()
	s := start(t, natsd.Options{Dir: dir, Durability: "fsync"})
	if s.URL() != "" {
		t.Errorf("a server without a socket has the address %s", s.URL())
	}
	_, js := connect(t, s.Connect)
	id := ensure(t, js, 1)
	if len(id) != 32 {
		t.Errorf("identity %q", id)
	}
	if _, err := js.Publish(t.Context(), "lifecycle.shop.plan.ticket.created.t1", []byte("x")); err != nil {
		t.Fatal(err)
	}
	s.Stop()

	s = start(t, natsd.Options{Dir: dir, Listen: "127.0.0.1:0"})
	opts, err := natsd.ServiceOptionsFromFile(filepath.Join(dir, natsd.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	_, js = connect(t, func(o ...nats.Option) (*nats.Conn, error) { return nats.Connect(s.URL(), o...) }, opts...)
	if again := ensure(t, js, 1); again != id {
		t.Errorf("identity %s after a restart, was %s", again, id)
	}
	st, err := js.Stream(t.Context(), natsd.Lifecycle)
	if err != nil {
		t.Fatal(err)
	}
	if n := st.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d events after a restart, want 1", n)
	}
}

func TestEnsureStreamsAtOnce(t *testing.T) {
	s := start(t, natsd.Options{})
	identities := ensureAtOnce(t, []*natsd.Server{s}, 8, 1)
	if len(identities) != 1 {
		t.Errorf("identities %v, want one", identities)
	}
}

func TestClusterEnsureStreamsAtOnce(t *testing.T) {
	servers, err := natsdtest.StartCluster(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		t.Cleanup(s.Stop)
	}
	if identities := ensureAtOnce(t, servers, 6, 3); len(identities) != 1 {
		t.Errorf("identities %v, want one", identities)
	}
	// The wall holds on every member, also when another one's guard answers.
	for _, s := range servers {
		_, js := connect(t, s.ConnectLocal)
		if _, err := js.CreateConsumer(t.Context(), natsd.Lifecycle, jetstream.ConsumerConfig{FilterSubject: "lifecycle.>"}); err != nil {
			t.Errorf("local consumer: %v", err)
		}
		if _, err := js.Publish(t.Context(), "submit.local.x", nil); err != nil {
			t.Errorf("local publish: %v", err)
		}
	}
}

func ensureAtOnce(t *testing.T, servers []*natsd.Server, callers, replicas int) map[string]bool {
	t.Helper()
	var (
		wg         sync.WaitGroup
		mu         sync.Mutex
		identities = map[string]bool{}
	)
	for i := range callers {
		_, js := connect(t, servers[i%len(servers)].Connect)
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			id, err := natsd.EnsureStreams(ctx, js, replicas)
			if err != nil {
				t.Errorf("ensure streams: %v", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			identities[id] = true
		})
	}
	wg.Wait()
	return identities
}

func TestLifecycle(t *testing.T) {
	s := start(t, natsd.Options{})
	nc, js := connect(t, s.Connect)
	ensure(t, js, 1)
	live, err := nc.SubscribeSync("lifecycle.>")
	if err != nil {
		t.Fatal(err)
	}

	for _, kind := range []string{"claims", "results", "lifecycle"} {
		if _, err := js.Publish(t.Context(), kind+".shop.plan.ticket.created.T-17", nil); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if _, err := js.Publish(t.Context(), kind+".shop.plan.ticket.created", nil); err == nil {
			t.Errorf("%s: five tokens are stored", kind)
		}
	}
	if m, err := live.NextMsg(2 * time.Second); err != nil || m.Subject != "lifecycle.shop.plan.ticket.created.T-17" {
		t.Errorf("a live subscriber got %v, %v: want the key", m, err)
	}
	st, err := js.Stream(t.Context(), natsd.Lifecycle)
	if err != nil {
		t.Fatal(err)
	}
	m, err := st.GetMsg(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	var partition int
	if _, err := fmt.Sscanf(m.Subject, "lifecycle.shop.plan.ticket.created.%d", &partition); err != nil || partition < 0 || partition >= natsd.Partitions {
		t.Errorf("stored under %s", m.Subject)
	}
	if err := st.DeleteMsg(t.Context(), 1); err == nil {
		t.Error("an event can be deleted")
	}
}

func TestEventSize(t *testing.T) {
	s := start(t, natsd.Options{})
	nc, js := connect(t, s.Connect)
	ensure(t, js, 1)
	header := nats.Header{"Ce-Type": {strings.Repeat("t", 1000)}}
	wire := len("NATS/1.0\r\n") + len("Ce-Type: ") + 1000 + len("\r\n\r\n")
	publish := func(subject string, n int) error {
		_, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: header, Data: make([]byte, n)})
		return err
	}
	const fact = "lifecycle.shop.plan.ticket.created.t1"
	if err := publish(fact, natsd.MaxEvent-wire); err != nil {
		t.Errorf("exactly the limit, headers included: %v", err)
	}
	if err := publish(fact, natsd.MaxEvent-wire+1); err == nil {
		t.Error("one byte over the limit is stored")
	}
	if err := publish("submit.local.x", natsd.MaxEvent); err == nil {
		t.Error("one header over the limit is taken from outside")
	}
	if err := publish("deadletter.shop.x", natsd.MaxEvent); err != nil {
		t.Errorf("a dead letter has no room for its reason: %v", err)
	}
	if !nc.IsConnected() {
		t.Error("the connection was lost")
	}
}

func TestOperatorsLimitStays(t *testing.T) {
	s := start(t, natsd.Options{})
	_, js := connect(t, s.Connect)
	id := ensure(t, js, 1)
	st, err := js.Stream(t.Context(), natsd.Lifecycle)
	if err != nil {
		t.Fatal(err)
	}
	cfg := st.CachedInfo().Config
	cfg.MaxAge, cfg.Description = time.Hour, "changed by hand"
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if again := ensure(t, js, 1); again != id {
		t.Errorf("identity %s after an update, was %s", again, id)
	}
	info, err := st.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Config.MaxAge != time.Hour || info.Config.Description == "changed by hand" {
		t.Errorf("after an update: age %s, description %q", info.Config.MaxAge, info.Config.Description)
	}
}

// A store with little room has some left for the streams that principals get later, also where a cluster says in its own words that
// there is too little.
func TestLittleRoom(t *testing.T) {
	for _, members := range []int{1, 3} {
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			peers, err := natsdtest.Members(t.TempDir(), members)
			if err != nil {
				t.Fatal(err)
			}
			var url string
			for _, m := range peers {
				o := &server.Options{
					ServerName: m.Name, Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true,
					JetStream: true, StoreDir: m.Dir, JetStreamMaxStore: 384 << 20,
				}
				if members > 1 {
					at := netip.MustParseAddrPort(m.Cluster.Listen)
					o.Cluster = server.ClusterOpts{Name: m.Cluster.Name, Host: at.Addr().String(), Port: int(at.Port())}
					o.Routes = server.RoutesFromStr(strings.Join(m.Cluster.Routes, ","))
				}
				s, err := server.NewServer(o)
				if err != nil {
					t.Fatal(err)
				}
				s.Start()
				t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
				url = s.ClientURL()
			}
			_, js := connect(t, func(o ...nats.Option) (*nats.Conn, error) { return nats.Connect(url, o...) })
			ensure(t, js, members)
			later := jetstream.StreamConfig{Name: "LATER", Subjects: []string{"later"}, MaxBytes: 64 << 20, Replicas: members}
			if err := natsd.EnsureStream(t.Context(), js, later); err != nil {
				t.Errorf("a stream of 64 MiB more: %v", err)
			}
		})
	}
}

// A server that listens on loopback in the clear is reached by its socket, which is faster; any other within the process.
func TestOwnConnections(t *testing.T) {
	over := func(o natsd.Options) string {
		t.Helper()
		s := start(t, o)
		nc, err := s.Connect()
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		return nc.ConnectedAddr()
	}
	if got := over(natsd.Options{Listen: "127.0.0.1:0"}); !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("listening on loopback: %q", got)
	}
	if got := over(natsd.Options{Listen: "0.0.0.0:0", Auth: true}); !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("listening everywhere: %q", got)
	}
	if got := over(natsd.Options{}); got != "pipe" {
		t.Errorf("listening nowhere: %q", got)
	}
}

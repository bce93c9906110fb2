package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sync/errgroup"

	"github.com/lemnis/lemnis/internal/backup"
	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/privacy"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
	"github.com/lemnis/lemnis/services/builder"
	"github.com/lemnis/lemnis/services/deployer"
	"github.com/lemnis/lemnis/services/feedback"
	"github.com/lemnis/lemnis/services/gateway"
	"github.com/lemnis/lemnis/services/monitor"
	"github.com/lemnis/lemnis/services/planner"
)

// deciders runs the deciding half of all services on a bus until the returned func is called; what a lap does in the
// world is left out. It returns when each owns its phase.
func deciders(t *testing.T, host service.Host) (stop func()) {
	t.Helper()
	vault, err := privacy.NewVault(t.Context(), host.JS, 1)
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	definitions := append(builder.New(builder.Options{Data: data}), planner.New(), deployer.New(deployer.Options{Data: data}),
		monitor.New(monitor.Options{}), feedback.New(feedback.Options{Keys: vault}))
	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	var all []*service.Service
	for _, d := range definitions {
		d.Effects, d.Duties, d.Timers, d.Projections = nil, nil, nil, nil
		s := service.New(host, d)
		group.Go(func() error { return s.Run(ctx) })
		all = append(all, s)
	}
	for _, s := range all {
		<-s.Ready()
	}
	return sync.OnceFunc(func() {
		cancel()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// claimTickets claims as the gateway does, until ctx ends; it returns how many.
func claimTickets(ctx context.Context, t *testing.T, host service.Host, name string) (n int) {
	for ; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("%s-%d", name, n)
		e := events.New("shop", key, events.TicketCreated{Ticket: events.Ticket{Summary: key, Creator: "ann", URI: "https://example.org/" + key}})
		entry, _ := events.Lookup(e.Type)
		e.ID, e.Source, e.Time, e.Phase, e.Principal = key, "/test", time.Now(), entry.Phase, "local"
		e.Chain = e.ID
		m, err := events.Encode(e)
		if err != nil {
			t.Error(err)
			return n
		}
		m.Subject = e.Subject(events.Claim)
		m.Header[nats.MsgIdHdr] = []string{events.ClaimMessageID(e.Principal, e.Source, e.ID)}
		if _, err := host.JS.PublishMsg(context.WithoutCancel(ctx), m); err != nil {
			t.Error(err)
			return n
		}
	}
	return n
}

// answered waits until every phase has handled what is on the stream now.
func answered(t *testing.T, host service.Host) uint64 {
	t.Helper()
	last, err := service.LastSequence(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	// A floor stands at the last cause of its phase, so one is put behind everything.
	e := events.New("shop", "shop", events.ProjectConfigured{Project: events.DefaultProject("shop")})
	e.ID, e.Source, e.Time, e.Phase, e.Principal, e.Chain = fmt.Sprintf("last-%d", last), "/test", time.Now(), events.Plan, "local", "last"
	m, err := events.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	m.Subject = e.Subject(events.Claim)
	ack, err := host.JS.PublishMsg(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	awaitFloors(t, host, 6, ack.Sequence)
	return ack.Sequence
}

// raw is a message as it stands on the stream.
type raw struct {
	subject, header, data string
	stored                time.Time
}

func rawStream(t *testing.T, host service.Host, to uint64) []raw {
	t.Helper()
	all := make([]raw, 0, to)
	err := service.Tail(t.Context(), host, nil, 1, func(m service.Message) error {
		header, err := json.Marshal(m.Headers())
		if err != nil {
			return err
		}
		all = append(all, raw{m.Subject(), string(header), string(m.Data()), m.Stored})
		if m.Sequence >= to {
			return service.ErrStop
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// once checks that no aggregate stated two facts for one cause, that no id is there twice, and that each claim of this
// test has its answer.
func once(t *testing.T, host service.Host) {
	t.Helper()
	last, err := service.LastSequence(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	ids, causes, open := map[string]bool{}, map[string]uint64{}, map[uint64]string{}
	err = service.Tail(t.Context(), host, nil, 1, func(m service.Message) error {
		e, err := m.Event()
		if err != nil {
			return err
		}
		id := string(e.Kind) + " " + e.Source + " " + e.ID
		if ids[id] {
			t.Errorf("the id %s is there twice", id)
		}
		ids[id] = true
		switch {
		case e.Kind == events.Claim && e.Source == "/test":
			open[e.Sequence] = e.ID
		case e.Kind == events.Stated:
			cause := fmt.Sprintf("%s %s/%s of %d", e.Phase, e.Aggregate, e.Key, e.CauseSequence)
			if before, twice := causes[cause]; twice {
				t.Errorf("%s stated two facts, %d and %d", cause, before, e.Sequence)
			}
			causes[cause] = e.Sequence
			delete(open, e.CauseSequence)
		}
		if m.Sequence >= last {
			return service.ErrStop
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(open, last) // the one that only marks the end may still be under way
	if len(open) > 0 {
		t.Errorf("%d claims have no answer", len(open))
	}
}

// folds are all that the services have saved, by phase, version and partition.
func folds(t *testing.T, host service.Host) map[string]map[string]string {
	t.Helper()
	client := host.Folds.Client()
	keys, err := client.Keys(t.Context(), "fold:*/[0-9]*").Result()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]string{}
	for _, key := range keys {
		if !strings.Contains(key, "{"+host.FoldIdentity()+"/") || strings.Contains(key, "gateway") {
			continue
		}
		fields, err := client.HGetAll(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		saved := map[string]string{"sequence": fields["sequence"]}
		for name, value := range fields {
			if strings.Contains(name, "/") {
				saved[name] = value
			}
		}
		all[strings.Replace(key, host.FoldIdentity(), "", 1)] = saved
	}
	return all
}

// read is what a gateway answers from its read models, when it has caught up.
func read(t *testing.T, host service.Host) string {
	t.Helper()
	g, err := gateway.New(gateway.Options{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := g.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	server := httptest.NewServer(g.Handler())
	defer func() { server.Close(); stop(); running.Wait() }()
	for deadline := time.Now().Add(time.Minute); g.Ready() != ""; <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the gateway waits for %s", g.Ready())
		}
	}
	text := ""
	for _, path := range []string{"/events?limit=1000", "/events?limit=1000&type=ticket.created", "/events?limit=1000&phase=deploy"} {
		response, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || len(body) < 1000 {
			t.Fatalf("%s: %d, %d bytes: %v", path, response.StatusCode, len(body), err)
		}
		text += string(body)
	}
	return text
}

func restored(t *testing.T, archive string, host func() (*nats.Conn, func() service.Host)) service.Host {
	t.Helper()
	a, err := backup.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	nc, open := host()
	if err := backup.Restore(t.Context(), a, backup.Target{Conn: nc}); err != nil {
		t.Fatal(err)
	}
	return open()
}

// The stream of a lap, and claims that come while the copy is made: restored into an empty embedded installation, and onto
// a nats-server and a redis-server of their own, the events are the same to the byte, the folds of all services at the
// same sequence are equal, and it goes on there: no fact is stated twice, none is missing.
func TestBackupAndRestore(t *testing.T) {
	from := busIn(t, t.TempDir())
	replay(t, from, "testdata/recorded/0.1.jsonl.gz")
	stop := deciders(t, from)
	loading, enough := context.WithCancel(t.Context())
	var load sync.WaitGroup
	claimed := 0
	load.Go(func() { claimed = claimTickets(loading, t, from, "T") })
	begun, err := service.LastSequence(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	for at := begun; at < begun+200; at, err = service.LastSequence(t.Context(), from) {
		if err != nil || t.Failed() {
			t.Fatal(err)
		}
	}
	moving := filepath.Join(t.TempDir(), "moving.tar")
	m, err := backup.Create(t.Context(), backup.Source{Conn: from.Conn, Version: "test"}, moving)
	if err != nil {
		t.Fatal(err)
	}
	enough()
	load.Wait()
	end := answered(t, from)
	stop()
	t.Logf("copied up to %d of %d events under load, %d claims", m.Sequence, end, claimed)
	if m.Sequence <= begun || end <= m.Sequence+1 {
		t.Errorf("the copy was made up to %d, of %d to %d: that was no load", m.Sequence, begun, end)
	}
	still := filepath.Join(t.TempDir(), "still.tar")
	if _, err := backup.Create(t.Context(), backup.Source{Conn: from.Conn, Version: "test"}, still); err != nil {
		t.Fatal(err)
	}
	want, sees, before := folds(t, from), read(t, from), rawStream(t, from, m.Sequence)
	if len(want) < 20 {
		t.Fatalf("only %d partitions are saved", len(want))
	}
	for name, host := range places(t) {
		t.Run(name, func(t *testing.T) {
			under := restored(t, moving, host(t))
			for i, got := range rawStream(t, under, m.Sequence) {
				if got != before[i] {
					t.Fatalf("event %d became another: %+v, was %+v", i+1, got, before[i])
				}
			}
			stop := deciders(t, under)
			going, enough := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer enough()
			more := claimTickets(going, t, under, "U")
			at := answered(t, under)
			stop()
			once(t, under)
			t.Logf("it went on from %d to %d with %d claims", m.Sequence, at, more)

			rest := restored(t, still, host(t))
			deciders(t, rest)()
			got := folds(t, rest)
			if len(got) != len(want) {
				t.Errorf("%d partitions, want %d", len(got), len(want))
			}
			states := 0
			for partition, saved := range want {
				for field, value := range saved {
					states++
					if got[partition][field] != value {
						t.Errorf("%s %s is %q, was %q", partition, field, got[partition][field], value)
					}
				}
			}
			t.Logf("%d values in %d partitions are the same", states, len(want))
			if read(t, rest) != sees {
				t.Error("the gateway answers something else")
			}
		})
	}
	_ = os.Remove(moving)
}

// places are where a backup is restored to.
func places(t *testing.T) map[string]func(*testing.T) func() (*nats.Conn, func() service.Host) {
	all := map[string]func(*testing.T) func() (*nats.Conn, func() service.Host){
		"embedded": func(t *testing.T) func() (*nats.Conn, func() service.Host) {
			return func() (*nats.Conn, func() service.Host) {
				server, err := natsd.Start(natsd.Options{Dir: t.TempDir()})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(server.Stop)
				nc, err := server.Connect()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(nc.Close)
				return nc, func() service.Host { return hostOn(t, nc, embeddedFolds(t)) }
			}
		},
	}
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		t.Log("SKIPPED: there is no redis-server on the PATH, so restoring onto single programs was NOT tried")
		return all
	}
	all["programs"] = func(t *testing.T) func() (*nats.Conn, func() service.Host) {
		return func() (*nats.Conn, func() service.Host) {
			dir, err := programs()
			if err != nil {
				t.Fatal(err)
			}
			data, port := t.TempDir(), freePort(t)
			socket := filepath.Join(data, "redis.sock")
			start(t, redis, nil, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", data)
			start(t, filepath.Join(dir, "nats-server"), nil, "-js", "-sd", filepath.Join(data, "nats"), "-a", "127.0.0.1", "-p", fmt.Sprint(port))
			waitForSocket(t, socket)
			nc, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", port), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(nc.Close)
			if err := nc.FlushTimeout(20 * time.Second); err != nil {
				t.Fatal(err)
			}
			return nc, func() service.Host {
				folds, err := fold.Open(t.Context(), "unix://"+socket)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = folds.Close() })
				return hostOn(t, nc, folds)
			}
		}
	}
	return all
}

func embeddedFolds(t *testing.T) *fold.Store {
	t.Helper()
	folds, err := fold.Embedded("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = folds.Close() })
	return folds
}

func hostOn(t *testing.T, nc *nats.Conn, folds *fold.Store) service.Host {
	t.Helper()
	host, err := service.NewHost(t.Context(), nc, folds, 1, zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)))
	if err != nil {
		t.Fatal(err)
	}
	host.Timing = service.Timing{Lease: time.Second}
	return host
}

package deployer

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/lemnis/lemnis/internal/fold"
	"github.com/lemnis/lemnis/internal/natsd"
	"github.com/lemnis/lemnis/internal/natsd/natsdtest"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// bus is a real one with the service on it.
type bus struct {
	tb       testing.TB
	ctx      context.Context
	host     service.Host
	consumer jetstream.Consumer
	met      []events.Event
}

func newBus(tb testing.TB, patience time.Duration) *bus {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	_, nc, _ := natsdtest.Start(tb)
	folds, err := fold.Embedded("")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = folds.Close() })
	host, err := service.NewHost(ctx, nc, folds, 1, zap.NewNop())
	if err != nil {
		tb.Fatal(err)
	}
	consumer, err := host.JS.OrderedConsumer(ctx, natsd.Lifecycle, jetstream.OrderedConsumerConfig{FilterSubjects: []string{"lifecycle.shop.deploy.>"}})
	if err != nil {
		tb.Fatal(err)
	}
	return &bus{tb: tb, ctx: ctx, host: host, consumer: consumer}
}

// run runs the service until stop, which waits for its end.
func (b *bus) run(o Options) (stop func()) {
	_, stop = b.deploy(o)
	return stop
}

func (b *bus) deploy(o Options) (d *deployer, stop func()) {
	ctx, cancel := context.WithCancel(b.ctx)
	done := make(chan error, 1)
	d = newDeployer(o)
	s := service.New(b.host, d.definition())
	go func() { done <- s.Run(ctx) }()
	return d, func() {
		cancel()
		if err := <-done; err != nil {
			b.tb.Error(err)
		}
	}
}

func (b *bus) state(e events.Event) {
	b.tb.Helper()
	e.ID, e.Source, e.Time, e.Type = e.SubjectID, "/test", time.Now(), events.TypeOf(e.Content)
	msg, err := events.Encode(e)
	if err != nil {
		b.tb.Fatal(err)
	}
	msg.Subject = e.Subject(events.Stated)
	if _, err := b.host.JS.PublishMsg(b.ctx, msg); err != nil {
		b.tb.Fatal(err)
	}
}

func (b *bus) configure(p events.Project) {
	b.tb.Helper()
	b.state(events.Event{Project: "shop", Phase: events.Plan, Key: "shop", SubjectID: "shop", Content: events.ProjectConfigured{Project: p, Revision: 1}})
}

func (b *bus) publish(a events.ArtifactDetail) {
	b.tb.Helper()
	b.state(events.Event{Project: "shop", Phase: events.Integrate, Key: a.Digest, SubjectID: a.ID, Chain: "chain-" + a.Change, Content: events.ArtifactPublished{Lemnis: a}})
}

// await waits for a fact: they are met in order, each once.
func (b *bus) await(what string, test func(events.Event) bool) events.Event {
	b.tb.Helper()
	for {
		m, err := b.consumer.Next(jetstream.FetchContext(b.ctx))
		if err != nil {
			b.tb.Fatalf("no %s: %v in\n%s", what, err, tale(b.met))
		}
		e, err := events.DecodeBody(m.Data())
		if err != nil {
			b.tb.Fatal(err)
		}
		e.Key = m.Headers().Get("ce-key")
		if stored, err := m.Metadata(); err == nil {
			e.Stored = stored.Timestamp
		}
		b.met = append(b.met, e)
		if test(e) {
			return e
		}
	}
}

// The service on the real bus: an artifact of the pipeline gets to all users of every environment, a bad one behind
// it back, and after a clean stop the next owner serves the same at the same address.
func TestOnTheBus(t *testing.T) {
	b := newBus(t, time.Minute)
	o := Options{Data: t.TempDir(), Grace: 2 * time.Second}
	shelf := newShelf(t)
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "bad")
	stop := b.run(o)
	b.configure(testProject("dev", "prod"))
	b.publish(v1)
	first := b.await("v1 in prod", published("prod", v1.Digest))
	if got := get(t, url(first)); !strings.HasPrefix(got, "v1 ") || first.Chain != "chain-v1" {
		t.Errorf("%s in %s", got, first.Chain)
	}
	crowd := traffic(url(first), 200)
	b.publish(v2)
	b.await("bar", is[events.ArtifactBarred])
	crowd.stop()

	stop()
	defer b.run(o)()
	if !poll(func() bool {
		response, err := httpGet(url(first))
		return err == nil && strings.HasPrefix(response, "v1 ")
	}) {
		t.Fatal("nothing serves after the restart")
	}
}

// An owner that loses the phase goes on serving: no request fails, no process is started anew when it owns the phase again. Once
// another process has the phase, its users are that one's.
func TestALostPhase(t *testing.T) {
	b := newBus(t, time.Minute)
	b.host.Timing.Lease = time.Second
	b.host.Instance = "this"
	shelf := newShelf(t)
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "good")
	said := make(chan string, 100)
	stop := b.run(Options{Data: t.TempDir(), Grace: 2 * time.Second, Log: func(message string, _ ...any) {
		select {
		case said <- message:
		default:
		}
	}})
	defer stop()
	hear := func(what string) {
		t.Helper()
		for {
			select {
			case message := <-said:
				if strings.Contains(message, what) {
					return
				}
			case <-b.ctx.Done():
				t.Fatalf("nothing of %q was said", what)
			}
		}
	}
	b.configure(testProject("prod"))
	b.publish(v1)
	address := url(b.await("v1 in prod", published("prod", v1.Digest)))
	leases, err := b.host.JS.KeyValue(b.ctx, "LEASES")
	if err != nil {
		t.Fatal(err)
	}
	hold := func(owner, instance string) {
		t.Helper()
		if _, err := leases.PutString(b.ctx, "deploy", `{"owner":"`+owner+`","instance":"`+instance+`"}`); err != nil {
			t.Fatal(err)
		}
	}

	crowd := traffic(address, 50)
	hold("an earlier term", "this")
	hear("the phase is lost")
	b.publish(v2) // what comes next shows that it is the owner again
	b.await("v2 in prod", published("prod", v2.Digest))
	crowd.stop()
	if len(crowd.errors) > 0 || crowd.total == 0 {
		t.Errorf("%d requests, failed for users: %v", crowd.total, crowd.errors)
	}
	for version, pids := range crowd.pids {
		if len(pids) != 1 {
			t.Errorf("%s ran as %d processes", version, len(pids))
		}
	}

	hold("somebody", "elsewhere")
	hear("another process has the phase")
	if !poll(func() bool { _, err := httpGet(address); return err != nil }) {
		t.Error("users are still served while another process has the phase")
	}
}

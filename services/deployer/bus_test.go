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
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

// The service on the real bus: an artifact of the pipeline gets to all users of every environment, a bad one behind
// it back, and after a clean stop the next owner serves the same at the same address.
func TestOnTheBus(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	server, err := natsd.Start(natsd.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	folds, err := fold.Embedded("")
	if err != nil {
		t.Fatal(err)
	}
	defer folds.Close()
	host, err := service.NewHost(ctx, nc, folds, 1, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	run := func() (stop func()) {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		s := service.New(host, New(Options{Data: data, Grace: 2 * time.Second}))
		go func() { done <- s.Run(ctx) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	state := func(e events.Event) {
		e.ID, e.Source, e.Time, e.Type = e.SubjectID, "/test", time.Now(), events.TypeOf(e.Content)
		msg, err := events.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		msg.Subject = e.Subject(events.Stated)
		if _, err := host.JS.PublishMsg(ctx, msg); err != nil {
			t.Fatal(err)
		}
	}
	// Facts are met in order, each once.
	consumer, err := host.JS.OrderedConsumer(ctx, natsd.Lifecycle, jetstream.OrderedConsumerConfig{FilterSubjects: []string{"lifecycle.shop.deploy.>"}})
	if err != nil {
		t.Fatal(err)
	}
	var met []events.Event
	await := func(what string, test func(events.Event) bool) events.Event {
		t.Helper()
		for {
			m, err := consumer.Next(jetstream.FetchContext(ctx))
			if err != nil {
				t.Fatalf("no %s: %v in\n%s", what, err, tale(met))
			}
			e, err := events.DecodeBody(m.Data())
			if err != nil {
				t.Fatal(err)
			}
			e.Key = m.Headers().Get("ce-key")
			met = append(met, e)
			if test(e) {
				return e
			}
		}
	}

	shelf := newShelf(t)
	v1, v2 := shelf.put(t, "v1", "good"), shelf.put(t, "v2", "bad")
	project := testProject("dev", "prod")
	stop := run()
	state(events.Event{Project: "shop", Phase: events.Plan, Key: "shop", SubjectID: "shop", Content: events.ProjectConfigured{Project: project, Revision: 1}})
	publish := func(a events.ArtifactDetail) {
		state(events.Event{Project: "shop", Phase: events.Integrate, Key: a.Digest, SubjectID: a.ID, Chain: "chain-" + a.Change, Content: events.ArtifactPublished{Lemnis: a}})
	}
	publish(v1)
	first := await("v1 in prod", published("prod", v1.Digest))
	if got := get(t, url(first)); !strings.HasPrefix(got, "v1 ") || first.Chain != "chain-v1" {
		t.Errorf("%s in %s", got, first.Chain)
	}
	crowd := traffic(url(first), 200)
	publish(v2)
	await("bar", is[events.ArtifactBarred])
	crowd.stop()

	stop()
	defer run()()
	if !poll(func() bool {
		response, err := httpGet(url(first))
		return err == nil && strings.HasPrefix(response, "v1 ")
	}) {
		t.Fatal("nothing serves after the restart")
	}
}

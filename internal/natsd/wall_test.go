package natsd_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/natsd"
)

const fact = "lifecycle.shop.plan.ticket.created.t1"

// errorHandler counts the server's permission errors instead of printing them.
func countRefusals(n *atomic.Int64) nats.Option {
	return nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) { n.Add(1) })
}

func TestLocalMay(t *testing.T) {
	s := start(t, natsd.Options{})
	_, service := connect(t, s.Connect)
	ensure(t, service, 1)
	nc, js := connect(t, s.ConnectLocal)
	ctx := t.Context()

	live, err := nc.SubscribeSync("lifecycle.shop.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	ack, err := js.PublishMsg(ctx, &nats.Msg{Subject: "submit.local.shop", Header: nats.Header{"A": {"b"}}, Data: []byte("claim")})
	if err != nil || ack.Stream != "SUBMIT_local" {
		t.Fatalf("submit: %v, %v", ack, err)
	}
	inbox, err := service.Stream(ctx, "SUBMIT_local")
	if err != nil {
		t.Fatal(err)
	}
	if m, err := inbox.GetMsg(ctx, 1); err != nil || m.Subject != "submit.local.shop" || fmt.Sprint(m.Header) != "map[A:[b]]" {
		t.Errorf("submitted %+v, %v", m, err)
	}
	for i := range 5 {
		if _, err := service.Publish(ctx, fact, fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := service.Publish(ctx, "claims.shop.plan.ticket.created.t1", nil); err != nil {
		t.Fatal(err)
	}
	if m, err := live.NextMsg(2 * time.Second); err != nil || m.Subject != fact {
		t.Errorf("live fact %v, %v", m, err)
	}

	st, err := js.Stream(ctx, natsd.Lifecycle)
	if err != nil {
		t.Fatalf("stream info: %v", err)
	}
	if st.CachedInfo().Config.Metadata[natsd.IdentityKey] == "" {
		t.Error("no identity in the stream info")
	}
	for name, cfg := range map[string]jetstream.ConsumerConfig{
		"ephemeral, all facts":  {FilterSubject: "lifecycle.>", AckPolicy: jetstream.AckExplicitPolicy},
		"durable, one project":  {Durable: "local-ci", FilterSubject: "lifecycle.shop.>", AckPolicy: jetstream.AckExplicitPolicy},
		"named, one phase":      {Name: "mine", FilterSubject: "lifecycle.shop.plan.*.*.*", AckPolicy: jetstream.AckExplicitPolicy},
		"headers only, no acks": {FilterSubject: "lifecycle.>", HeadersOnly: true},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := st.CreateOrUpdateConsumer(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			batch, err := c.Fetch(5, jetstream.FetchMaxWait(2*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			var got int
			for m := range batch.Messages() {
				if !strings.HasPrefix(m.Subject(), "lifecycle.shop.plan.ticket.created.") {
					t.Errorf("subject %s", m.Subject())
				}
				if meta, err := m.Metadata(); err != nil || meta.Sequence.Stream != uint64(got+1) {
					t.Errorf("metadata %+v, %v", meta, err)
				}
				got++
				if cfg.AckPolicy == jetstream.AckExplicitPolicy {
					if err := m.DoubleAck(ctx); err != nil {
						t.Errorf("ack: %v", err)
					}
				}
			}
			if got != 5 || batch.Error() != nil {
				t.Errorf("fetched %d, %v", got, batch.Error())
			}
			if info, err := c.Info(ctx); err != nil || info.NumPending != 0 || info.NumAckPending != 0 {
				t.Errorf("info %+v, %v", info, err)
			} else if info.Config.InactiveThreshold == 0 {
				t.Error("the consumer would stay for ever")
			}
			if err := st.DeleteConsumer(ctx, c.CachedInfo().Name); err != nil {
				t.Errorf("delete: %v", err)
			}
		})
	}
	t.Run("ordered", func(t *testing.T) {
		c, err := st.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: []string{"lifecycle.shop.>"}})
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan struct{}, 5)
		run, err := c.Consume(func(jetstream.Msg) { got <- struct{}{} })
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			select {
			case <-got:
			case <-time.After(2 * time.Second):
				t.Fatalf("only %d facts", i)
			}
		}
		run.Stop()
		<-run.Closed()
	})
}

// Each of these is tried raw, with a reply subject of its own, and none may
// get an answer that is not an error, or change anything.
func TestLocalMayNot(t *testing.T) {
	s := start(t, natsd.Options{})
	svc, service := connect(t, s.Connect)
	ensure(t, service, 1)
	ctx := t.Context()
	for range 3 {
		if _, err := service.Publish(ctx, fact, []byte("fact")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := service.CreateConsumer(ctx, natsd.Lifecycle, jetstream.ConsumerConfig{
		Durable: "planner-effects", FilterSubject: "lifecycle.>", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	var refused atomic.Int64
	nc, _ := connect(t, s.ConnectLocal, countRefusals(&refused))

	consumer := func(config string) string {
		return `{"stream_name":"LIFECYCLE","config":` + config + `}`
	}
	const create = "$JS.API.CONSUMER.CREATE.LIFECYCLE."
	for _, try := range []struct{ name, subject, body string }{
		{"a fact", fact, "forged"},
		{"a claim", "claims.shop.plan.ticket.created.t1", "forged"},
		{"a result", "results.shop.plan.ticket.created.t1", "forged"},
		{"a timer", "timers.set.x", ""},
		{"a dead letter", "deadletter.x", ""},
		{"another principal's inbox", "submit.jenkins.x", ""},
		{"a lease", "$KV.LEASES.planner", "mine"},
		{"another's reply", "_INBOX.abc", ""},
		{"a service's reply", "_SVC.abc", ""},
		{"the guard directly", "_WALL.local.create.x.lifecycle.>", ""},
		{"account info", "$JS.API.INFO", ""},
		{"stream names", "$JS.API.STREAM.NAMES", ""},
		{"stream list", "$JS.API.STREAM.LIST", ""},
		{"info of another stream", "$JS.API.STREAM.INFO.TIMERS", ""},
		{"info of the leases", "$JS.API.STREAM.INFO.KV_LEASES", ""},
		{"create stream", "$JS.API.STREAM.CREATE.MINE", `{"name":"MINE","subjects":["mine"]}`},
		{"update stream", "$JS.API.STREAM.UPDATE.LIFECYCLE", `{"name":"LIFECYCLE"}`},
		{"delete stream", "$JS.API.STREAM.DELETE.LIFECYCLE", ""},
		{"delete own inbox", "$JS.API.STREAM.DELETE.SUBMIT_local", ""},
		{"purge", "$JS.API.STREAM.PURGE.LIFECYCLE", ""},
		{"purge own inbox", "$JS.API.STREAM.PURGE.SUBMIT_local", ""},
		{"delete message", "$JS.API.STREAM.MSG.DELETE.LIFECYCLE", `{"seq":1}`},
		{"get message", "$JS.API.STREAM.MSG.GET.LIFECYCLE", `{"seq":1}`},
		{"the last claim", "$JS.API.STREAM.MSG.GET.LIFECYCLE", `{"last_by_subj":"claims.>"}`},
		{"the last of all", "$JS.API.STREAM.MSG.GET.LIFECYCLE", `{"last_by_subj":">"}`},
		{"the next claim", "$JS.API.STREAM.MSG.GET.LIFECYCLE", `{"seq":1,"next_by_subj":"claims.>"}`},
		{"direct get", "$JS.API.DIRECT.GET.LIFECYCLE", `{"seq":1}`},
		{"direct get by subject", "$JS.API.DIRECT.GET.LIFECYCLE." + fact, ""},
		{"snapshot", "$JS.API.STREAM.SNAPSHOT.LIFECYCLE", `{"deliver_subject":"_INBOX.s"}`},
		{"restore", "$JS.API.STREAM.RESTORE.MINE", `{"config":{"name":"MINE"}}`},
		{"leader step-down", "$JS.API.STREAM.LEADER.STEPDOWN.LIFECYCLE", ""},
		{"consumer names", "$JS.API.CONSUMER.NAMES.LIFECYCLE", ""},
		{"consumer list", "$JS.API.CONSUMER.LIST.LIFECYCLE", ""},

		{"consumer without a filter", "$JS.API.CONSUMER.CREATE.LIFECYCLE", consumer(`{}`)},
		{"consumer without a filter, named", create + "a", consumer(`{"name":"a"}`)},
		{"durable by the old subject", "$JS.API.CONSUMER.DURABLE.CREATE.LIFECYCLE.a", consumer(`{"durable_name":"a","filter_subject":"lifecycle.>"}`)},
		{"filter on claims", create + "a.claims.>", consumer(`{"name":"a","filter_subject":"claims.>"}`)},
		{"filter on all", create + "a.>", consumer(`{"name":"a","filter_subject":">"}`)},
		{"filter differs in the body", create + "a.lifecycle.>", consumer(`{"name":"a","filter_subject":"claims.>"}`)},
		{"no filter in the body", create + "a.lifecycle.>", consumer(`{"name":"a"}`)},
		{"filters in the body", create + "a.lifecycle.>", consumer(`{"name":"a","filter_subjects":["claims.>"]}`)},
		{"one and more filters in the body", create + "a.lifecycle.>", consumer(`{"name":"a","filter_subject":"lifecycle.>","filter_subjects":["claims.>"]}`)},
		{"another stream in the body", create + "a.lifecycle.>", `{"stream_name":"TIMERS","config":{"name":"a","filter_subject":"lifecycle.>"}}`},
		{"another name in the body", create + "a.lifecycle.>", consumer(`{"name":"planner-effects","filter_subject":"lifecycle.>"}`)},
		{"push consumer onto timers", create + "a.lifecycle.>", consumer(`{"name":"a","filter_subject":"lifecycle.>","deliver_subject":"timers.set.x"}`)},
		{"push consumer onto a purge", create + "a.lifecycle.>", consumer(`{"name":"a","filter_subject":"lifecycle.>","deliver_subject":"$JS.API.STREAM.DELETE.LIFECYCLE"}`)},
		{"push consumer by another spelling", create + "a.lifecycle.>", consumer(`{"name":"a","filter_subject":"lifecycle.>","Deliver_Subject":"timers.set.x"}`)},
		{"push consumer by a second key", create + "a.lifecycle.>", consumer(`{"name":"a","filter_subject":"lifecycle.>","deliver_subject":"","DELIVER_SUBJECT":"timers.set.x"}`)},
		{"everybody's consumers at once", create + "*.lifecycle.>", consumer(`{"name":"*","filter_subject":"lifecycle.>"}`)},
		{"all that is below", create + ">.lifecycle.>", consumer(`{"name":">","filter_subject":"lifecycle.>"}`)},
		{"a name that no configuration can hold", create + "a\u200bb.lifecycle.>", consumer(`{"name":"a\u200bb","filter_subject":"lifecycle.>"}`)},
		{"a service's consumer updated", create + "planner-effects.lifecycle.>", consumer(`{"durable_name":"planner-effects","filter_subject":"lifecycle.>","ack_policy":"none"}`)},
		{"a service's name taken first", create + "builder-effects.lifecycle.>", consumer(`{"durable_name":"builder-effects","filter_subject":"lifecycle.>"}`)},
		{"a service's consumer: info", "$JS.API.CONSUMER.INFO.LIFECYCLE.planner-effects", ""},
		{"a service's consumer: delete", "$JS.API.CONSUMER.DELETE.LIFECYCLE.planner-effects", ""},
		{"a service's consumer: next", "$JS.API.CONSUMER.MSG.NEXT.LIFECYCLE.planner-effects", "1"},
		{"a service's consumer: ack", "$JS.ACK.LIFECYCLE.planner-effects.1.1.1.1.0", "+TERM"},
		{"a service's consumer: ack and next", "$JS.ACK.LIFECYCLE.planner-effects.1.1.1.1.0", "+NXT"},
		{"the lease's consumer", "$JS.API.CONSUMER.CREATE.KV_LEASES.a.$KV.LEASES.>", `{"stream_name":"KV_LEASES","config":{"name":"a","filter_subject":"$KV.LEASES.>"}}`},
		{"system", "$SYS.REQ.SERVER.PING", ""},
		{"system, own account", "$SYS.REQ.ACCOUNT.PING.CONNZ", ""},
	} {
		t.Run(try.name, func(t *testing.T) {
			before := refused.Load()
			inbox := nc.NewInbox()
			sub, err := nc.SubscribeSync(inbox)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sub.Unsubscribe() }()
			if err := nc.PublishRequest(try.subject, inbox, []byte(try.body)); err != nil {
				t.Fatal(err)
			}
			if err := nc.Flush(); err != nil {
				t.Fatal(err)
			}
			deadline := time.Now().Add(300 * time.Millisecond)
			for refused.Load() == before && time.Now().Before(deadline) {
				m, err := sub.NextMsg(20 * time.Millisecond)
				if err != nil {
					continue
				}
				var answer struct{ Error *jetstream.APIError }
				if m.Header.Get("Status") == "" && (json.Unmarshal(m.Data, &answer) != nil || answer.Error == nil) {
					t.Errorf("answered %s %v", m.Data, m.Header)
				}
				return
			}
		})
	}
	for _, subject := range []string{">", "claims.>", "results.>", "_SVC.>", "$JS.>", "submit.>", "timers.>", "$KV.>", "_R_.>", "_WALL.>", "*.>"} {
		before := refused.Load()
		sub, err := nc.SubscribeSync(subject)
		if err == nil {
			err = nc.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(time.Second); refused.Load() == before && time.Now().Before(end); {
			_, _ = sub.NextMsg(10 * time.Millisecond)
		}
		if refused.Load() == before {
			t.Errorf("subscribed to %s", subject)
		}
		_ = sub.Unsubscribe()
	}
	unchanged(t, svc, service, 3)
}

// The server does not check a reply subject against the sender's permissions.
// Whatever a local client puts there must not reach the services' account.
func TestLocalReplySubjectReachesNothing(t *testing.T) {
	s := start(t, natsd.Options{})
	svc, service := connect(t, s.Connect)
	ensure(t, service, 1)
	for range 3 {
		if _, err := service.Publish(t.Context(), fact, []byte("fact")); err != nil {
			t.Fatal(err)
		}
	}
	everything, err := svc.SubscribeSync("*.>")
	if err != nil {
		t.Fatal(err)
	}
	var refused atomic.Int64
	nc, js := connect(t, s.ConnectLocal, countRefusals(&refused))
	c, err := js.CreateConsumer(t.Context(), natsd.Lifecycle, jetstream.ConsumerConfig{FilterSubject: "lifecycle.>", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	name := c.CachedInfo().Name
	targets := []string{
		"claims.shop.plan.ticket.created.t1", "results.shop.plan.ticket.created.t1", "lifecycle.shop.plan.ticket.created.t9",
		"timers.set.x", "deadletter.x", "submit.jenkins.x", "$KV.LEASES.planner",
		"$JS.API.STREAM.DELETE.LIFECYCLE", "$JS.API.STREAM.PURGE.LIFECYCLE", "$JS.API.STREAM.PURGE.TIMERS", "$JS.API.STREAM.DELETE.SUBMIT_local",
	}
	for _, target := range targets {
		for _, subject := range []string{
			"submit.local.x",
			"$JS.API.STREAM.INFO.LIFECYCLE",
			"$JS.API.CONSUMER.INFO.LIFECYCLE." + name,
			"$JS.API.CONSUMER.MSG.NEXT.LIFECYCLE." + name,
			"$JS.API.CONSUMER.CREATE.LIFECYCLE.b.lifecycle.>",
		} {
			if err := nc.PublishRequest(subject, target, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A request after them, answered, shows that the ones before were handled.
	if _, err := c.Info(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := svc.Flush(); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := everything.NextMsg(100 * time.Millisecond)
		if err != nil {
			break
		}
		for _, target := range targets {
			if m.Subject == target {
				t.Errorf("reached %s with %s", m.Subject, m.Data)
			}
		}
	}
	unchanged(t, svc, service, 3)
}

// unchanged fails when anything but the given number of facts is in the
// streams that a local client may not write.
func unchanged(t *testing.T, svc *nats.Conn, service jetstream.JetStream, facts uint64) {
	t.Helper()
	if err := svc.Flush(); err != nil {
		t.Fatal(err)
	}
	// The one that made the stream proposed an identity there, and dropped it.
	const leases = 2
	for stream, want := range map[string]uint64{natsd.Lifecycle: facts, natsd.Timers: 0, natsd.DeadLetter: 0, "KV_" + natsd.Leases: leases} {
		st, err := service.Stream(t.Context(), stream)
		if err != nil {
			t.Errorf("stream %s: %v", stream, err)
			continue
		}
		if n := st.CachedInfo().State.LastSeq; n != want {
			t.Errorf("%s has %d messages, want %d", stream, n, want)
		}
		if stream != natsd.Lifecycle {
			continue
		}
		for info := range st.ListConsumers(t.Context()).Info() {
			cfg := info.Config
			if cfg.DeliverSubject != "" || len(cfg.FilterSubjects) > 0 || !strings.HasPrefix(cfg.FilterSubject, "lifecycle.") {
				t.Errorf("consumer %s: %+v", info.Name, cfg)
			}
			if info.Name == "planner-effects" && (info.Delivered.Consumer != 0 || cfg.AckPolicy != jetstream.AckExplicitPolicy) {
				t.Errorf("a service's consumer was touched: %+v", info)
			}
			if info.Name == "builder-effects" {
				t.Error("a service's name was taken")
			}
		}
	}
}

package natsd_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/internal/certs"
	"github.com/lemnis/lemnis/internal/certs/certstest"
	"github.com/lemnis/lemnis/internal/natsd"
)

// closed is a server that asks for keys, with a principal that may read a project and one that may read all.
type closed struct {
	*natsd.Server
	t       *testing.T
	dir     string
	service jetstream.JetStream
	seeds   map[string][]byte
}

// reads are the projects whose facts the principals may read.
var reads = map[string][]string{"jenkins": {"shop"}, "audit": {natsd.AnyProject}}

func startClosed(t *testing.T, change ...func(*natsd.Options)) *closed {
	t.Helper()
	c := &closed{t: t, dir: t.TempDir(), seeds: map[string][]byte{}}
	c.change(func(k *natsd.Keyring) (err error) {
		for _, e := range []natsd.Entry{{Name: "jenkins", Reads: reads["jenkins"]}, {Name: "audit", Reads: reads["audit"]}, {Name: "mute"}, {Name: "planner", Service: true}} {
			if c.seeds[e.Name], err = k.Add(e, time.Now()); err != nil {
				return err
			}
		}
		return nil
	})
	o := natsd.Options{Dir: c.dir, Auth: true, Listen: "127.0.0.1:0"}
	for _, f := range change {
		f(&o)
	}
	c.Server = start(t, o)
	_, c.service = connect(t, c.Connect)
	ensure(t, c.service, 1)
	for _, name := range []string{"jenkins", "audit", "mute"} {
		if err := natsd.EnsureSubmit(t.Context(), c.service, name, 1); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *closed) change(f func(*natsd.Keyring) error) {
	c.t.Helper()
	if err := natsd.ChangeKeyring(c.dir, f); err != nil {
		c.t.Fatal(err)
	}
}

// options of a connection by a name's key.
func (c *closed) options(name string, seed []byte) []nats.Option {
	c.t.Helper()
	if slices.Contains(natsd.Services(), name) {
		o, err := natsd.ServiceNameOptions(name, seed)
		if err != nil {
			c.t.Fatal(err)
		}
		return o
	}
	o, err := natsd.PrincipalOptions(seed)
	if err != nil {
		c.t.Fatal(err)
	}
	return o
}

func (c *closed) as(name string, more ...nats.Option) (*nats.Conn, jetstream.JetStream) {
	c.t.Helper()
	return connect(c.t, func(o ...nats.Option) (*nats.Conn, error) {
		return nats.Connect(c.URL(), append(c.options(name, c.seeds[name]), o...)...)
	}, more...)
}

// tries tells what the server refuses of what a connection does: the answers come in order, so that the refusal of
// something known to be refused ends the wait.
type tries struct {
	t       *testing.T
	nc      *nats.Conn
	refused chan string
}

func (c *closed) try(dial func(...nats.Option) (*nats.Conn, error)) *tries {
	c.t.Helper()
	r := &tries{t: c.t, refused: make(chan string, 64)}
	r.nc, _ = connect(c.t, dial, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { r.refused <- err.Error() }))
	return r
}

func (r *tries) allowed(do func() error) bool {
	r.t.Helper()
	if err := do(); err != nil {
		r.t.Fatal(err)
	}
	const never = "never.allowed"
	if err := r.nc.Publish(never, nil); err != nil {
		r.t.Fatal(err)
	}
	select {
	case said := <-r.refused:
		if strings.Contains(said, never) {
			return true
		}
		<-r.refused
		return false
	case <-time.After(5 * time.Second):
		r.t.Fatal("the server does not refuse what it has to")
		return false
	}
}

func (r *tries) mayPublish(subject string) bool {
	r.t.Helper()
	return r.allowed(func() error { return r.nc.PublishRequest(subject, r.nc.NewInbox(), nil) })
}

func (r *tries) maySubscribe(subject string) bool {
	r.t.Helper()
	return r.allowed(func() error {
		sub, err := r.nc.SubscribeSync(subject)
		if err == nil {
			err = r.nc.Flush()
		}
		if err == nil {
			_ = sub.Unsubscribe() // refused already, perhaps
		}
		return err
	})
}

// Every class of subjects, with every kind of key. "+" may publish, "-" may not.
func TestEverySubject(t *testing.T) {
	c := startClosed(t)
	who := []string{"planner", "builder", "deployer", "monitor", "feedback", "gateway", "jenkins", "audit", "mute"}
	phaseOf := map[string]string{"plan": "planner", "develop": "builder", "integrate": "builder", "deploy": "deployer", "operate": "monitor", "learn": "feedback"}
	services := "planner builder deployer monitor feedback gateway"
	outsiders := "jenkins audit mute"
	table := map[string]string{ // subject to who may
		"claims.shop.plan.ticket.created.t1":                   "gateway",
		"deadletter.shop.inbox-jenkins":                        "gateway",
		"submit.jenkins.shop":                                  "jenkins",
		"submit.audit.shop":                                    "audit",
		"submit.mute.shop":                                     "mute",
		"submit.local.shop":                                    "",
		"timers.fired.plan.x":                                  "",
		"_WALL.jenkins.create.x.lifecycle.shop.>":              "",
		"_SVC.planner.x":                                       "",
		"$SYS.REQ.SERVER.PING":                                 "",
		"$KV.LEASES.inbox-jenkins":                             "gateway",
		"$KV.TOKENS.admin":                                     "gateway",
		"$KV.KEYS.shop.x":                                      "gateway",
		"$KV.SUBSCRIPTIONS.x":                                  "gateway",
		"$JS.API.DIRECT.GET.KV_TOKENS.$KV.TOKENS.admin":        "gateway",
		"$JS.API.DIRECT.GET.KV_KEYS.$KV.KEYS.shop.x":           "gateway",
		"$JS.API.STREAM.MSG.GET.KV_KEYS":                       "gateway feedback",
		"$JS.API.DIRECT.GET.KV_LEASES.$KV.LEASES.plan":         services,
		"$JS.API.DIRECT.GET.LIFECYCLE":                         services,
		"$JS.API.STREAM.MSG.GET.LIFECYCLE":                     services + " " + outsiders, // theirs ends at the guard, which answers with a last fact only
		"$JS.API.STREAM.MSG.GET.TIMERS":                        services,
		"$JS.API.STREAM.INFO.LIFECYCLE":                        services + " " + outsiders,
		"$JS.API.STREAM.INFO.TIMERS":                           services,
		"$JS.API.STREAM.NAMES":                                 "gateway",
		"$JS.API.INFO":                                         "gateway " + outsiders, // theirs ends at the guard, which refuses it
		"$JS.API.STREAM.UPDATE.LIFECYCLE":                      "",
		"$JS.API.STREAM.UPDATE.TIMERS":                         "",
		"$JS.API.STREAM.DELETE.LIFECYCLE":                      "",
		"$JS.API.STREAM.DELETE.SUBMIT_jenkins":                 "",
		"$JS.API.STREAM.PURGE.LIFECYCLE":                       "",
		"$JS.API.STREAM.PURGE.SNAPSHOTS":                       "",
		"$JS.API.STREAM.PURGE.CACHE":                           "builder",
		"$JS.API.STREAM.UPDATE.CACHE":                          "",
		"$JS.API.DIRECT.GET.CACHE.cache.shop.r.entry.t.k":      "builder gateway", // which reads all streams
		"cache.shop.r.entry.t.k":                               "builder",
		"$JS.API.STREAM.PURGE.SUBMIT_jenkins":                  "",
		"$JS.API.STREAM.MSG.DELETE.LIFECYCLE":                  "",
		"$JS.API.STREAM.RESTORE.X":                             "",
		"$JS.API.STREAM.SNAPSHOT.LIFECYCLE":                    "",
		"$JS.API.STREAM.CREATE.MINE":                           "gateway", // its buckets, and the inboxes
		"$JS.API.CONSUMER.CREATE.LIFECYCLE.a.lifecycle.shop.>": services + " jenkins audit",
		"$JS.API.CONSUMER.CREATE.LIFECYCLE.a.lifecycle.food.>": services + " audit",
		"$JS.API.CONSUMER.CREATE.LIFECYCLE.a.lifecycle.>":      services + " audit",
		"$JS.API.CONSUMER.CREATE.LIFECYCLE.a.claims.>":         services,
		"$JS.API.CONSUMER.CREATE.LIFECYCLE.a":                  services,
		"$JS.API.CONSUMER.CREATE.LIFECYCLE":                    "gateway",
		"$JS.API.CONSUMER.CREATE.SUBMIT_jenkins.a":             "gateway",
		"$JS.API.CONSUMER.CREATE.TIMERS.fired-plan.x":          "planner",
		"$JS.API.CONSUMER.DURABLE.CREATE.LIFECYCLE.a":          "gateway",
		"$JS.API.CONSUMER.MSG.NEXT.TIMERS.fired-plan":          "planner",
		"$JS.API.CONSUMER.MSG.NEXT.SUBMIT_jenkins.gateway":     "gateway",
		"$JS.ACK.TIMERS.fired-plan.1.1.1.1.0":                  "planner",
		"$JS.ACK.SUBMIT_jenkins.gateway.1.1.1.1.0":             "gateway",
		"$JS.API.CONSUMER.INFO.LIFECYCLE.a":                    services + " " + outsiders, // the guard answers for their own only
		"$JS.API.CONSUMER.DELETE.LIFECYCLE.a":                  services + " " + outsiders, // as this
		"$JS.API.CONSUMER.MSG.NEXT.LIFECYCLE.a":                services + " " + outsiders, // theirs leads nowhere but to consumers that the guard has opened
		"$JS.ACK.LIFECYCLE.a.1.1.1.1.0":                        services + " " + outsiders, // as this
		"$JS.API.DIRECT.GET.LIFECYCLE.lifecycle.shop.x":        services,
		"$JS.API.DIRECT.GET.SNAPSHOTS.snapshots.plan.x.y":      services,
		"$JS.API.STREAM.MSG.GET.KV_LEASES":                     services,
		"$JS.API.CONSUMER.CREATE.KV_LEASES.a.$KV.LEASES.>":     services,
		"$JS.API.CONSUMER.DELETE.KV_LEASES.a":                  services,
		"$JS.FC.KV_LEASES.a":                                   services,
		"$JS.FC.LIFECYCLE.a":                                   "gateway",
		"$JS.API.STREAM.LIST":                                  "gateway",
		"$JS.API.STREAM.UPDATE.SUBMIT_jenkins":                 "gateway",
		"webhooks.shop.github":                                 "gateway",
		"snapshots.gateway.index.x":                            "gateway",
		"logs.shop.run.step":                                   "builder",
	}
	for phase, owner := range phaseOf {
		table["lifecycle.shop."+phase+".ticket.created.t1"] = owner
		table["results.shop."+phase+".ticket.created.t1"] = owner
		table["deadletter.shop."+phase] = owner + " gateway"
		table["timers.set."+phase+".x"] = owner
		table["$KV.LEASES."+phase] = owner
		table["snapshots."+phase+".item.x"] = owner
		table["$JS.API.CONSUMER.CREATE.TIMERS.fired-"+phase+".timers.fired."+phase+".>"] = owner
		table["$JS.API.CONSUMER.INFO.TIMERS.fired-"+phase] = owner + " gateway" // which may look at all, and take none
		table["$JS.API.CONSUMER.MSG.NEXT.TIMERS.fired-"+phase] = owner
		table["$JS.ACK.TIMERS.fired-"+phase+".1.1.1.1.0"] = owner
	}
	subscriptions := map[string]string{
		"lifecycle.shop.>": "jenkins audit", "lifecycle.food.>": "audit", "lifecycle.>": "audit", "claims.>": "", "results.>": "", "submit.>": "", "timers.>": "",
		"$KV.>": "", ">": "", "_SVC.>": "", "_SVC.planner.>": "planner", "_INBOX.>": outsiders, "deadletter.>": "", "$JS.>": "", "_WALL.>": "", "_R_.>": "", "lifecycle.*.plan.>": "audit",
	}
	for _, service := range strings.Fields(services) {
		subscriptions["_SVC."+service+".>"] = service
	}
	for _, name := range who {
		// All that is granted has a row.
		publish, subscribe := natsd.Granted(name, reads[name]...)
		for _, granted := range publish {
			if !within(table, name, granted) {
				t.Errorf("%s may publish %s, which no row says", name, granted)
			}
		}
		for _, granted := range subscribe {
			if !slices.Contains(strings.Fields(subscriptions[granted]), name) {
				t.Errorf("%s may subscribe to %s, which no row says", name, granted)
			}
		}
		t.Run(name, func(t *testing.T) {
			dial := func(o ...nats.Option) (*nats.Conn, error) { return c.ConnectAs(name, o...) }
			if strings.Contains(outsiders, name) {
				dial = func(o ...nats.Option) (*nats.Conn, error) {
					return nats.Connect(c.URL(), append(c.options(name, c.seeds[name]), o...)...)
				}
			}
			r := c.try(dial)
			for subject, allowed := range table {
				if got, want := r.mayPublish(subject), slices.Contains(strings.Fields(allowed), name); got != want {
					t.Errorf("publish %s: %v, want %v", subject, got, want)
				}
			}
			for subject, allowed := range subscriptions {
				if got, want := r.maySubscribe(subject), slices.Contains(strings.Fields(allowed), name); got != want {
					t.Errorf("subscribe %s: %v, want %v", subject, got, want)
				}
			}
		})
	}
	// The same key file as of a process of its own, by the socket.
	t.Run("planner by its file", func(t *testing.T) {
		r := c.try(func(o ...nats.Option) (*nats.Conn, error) {
			return nats.Connect(c.URL(), append(c.options("planner", c.seeds["planner"]), o...)...)
		})
		if !r.mayPublish("results.shop.plan.ticket.created.t1") || r.mayPublish("results.shop.deploy.ticket.created.t1") {
			t.Error("its rights are others")
		}
	})
	t.Run("nobody", func(t *testing.T) {
		if nc, err := nats.Connect(c.URL()); err == nil {
			nc.Close()
			t.Error("nobody gets in")
		}
		if nc, err := c.ConnectLocal(); err == nil {
			nc.Close()
			t.Error("nobody gets in, in the process")
		}
		seed := func() (s []byte) {
			var k natsd.Keyring
			s, err := k.Add(natsd.Entry{Name: "x"}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return s
		}()
		if nc, err := nats.Connect(c.URL(), c.options("x", seed)...); err == nil {
			nc.Close()
			t.Error("an unknown key gets in")
		}
	})
}

// within tells whether a row lets somebody publish to a subject of the pattern.
func within(rows map[string]string, name, pattern string) bool {
	for subject, allowed := range rows {
		if slices.Contains(strings.Fields(allowed), name) && server.SubjectsCollide(subject, pattern) {
			return true
		}
	}
	return false
}

// door is a subject that a credential may publish to.
type door struct {
	js      jetstream.JetStream
	subject string
	outside bool
}

// What headers ask of a stream, in the inbox of each principal and, by the key of each service, in the streams behind it.
func TestHeadersThatReachFurther(t *testing.T) {
	c := startClosed(t)
	// Each credential with what it may publish; elsewhere it may not publish at all (TestEverySubject).
	var doors []door
	for _, name := range []string{"jenkins", "audit", "mute"} {
		_, js := c.as(name)
		doors = append(doors, door{js, "submit." + name + ".x", true})
	}
	for name, subjects := range map[string][]string{
		"planner": {"plan.ticket.created.t1"}, "builder": {"develop.change.created.c1", "integrate.change.merged.c1"}, "deployer": {"deploy.service.deployed.s1"},
		"monitor": {"operate.incident.detected.i1"}, "feedback": {"learn.lemnis-insight.found.i1"}, "gateway": {"plan.ticket.created.t1"},
	} {
		_, js := connect(t, func(o ...nats.Option) (*nats.Conn, error) { return c.ConnectAs(name, o...) })
		kinds := []string{"results", "lifecycle"}
		if name == "gateway" {
			kinds = []string{"claims"}
		}
		for _, subject := range subjects {
			for _, kind := range kinds {
				doors = append(doors, door{js, kind + ".shop." + subject, false})
			}
		}
	}
	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for name, headers := range map[string]map[string]string{
		"a schedule":         {"Nats-Schedule": "@at " + later, "Nats-Schedule-Target": "lifecycle.shop.plan.ticket.created.t9"},
		"a repeated one":     {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "submit.jenkins.y"},
		"a rollup":           {"Nats-Rollup": "all"},
		"a subject's rollup": {"Nats-Rollup": "sub"},
		"a time to live":     {"Nats-TTL": "1s"},
		"a counter":          {"Nats-Incr": "+1"},
		"a batch":            {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1", "Nats-Batch-Commit": "1"},
		"another stream":     {"Nats-Expected-Stream": "LIFECYCLE"},
	} {
		h := nats.Header{}
		for k, v := range headers {
			h[k] = []string{v}
		}
		for _, d := range doors {
			if name == "another stream" && !d.outside {
				continue // it is that stream
			}
			ack, err := d.js.PublishMsg(t.Context(), &nats.Msg{Subject: d.subject, Header: h, Data: []byte("x")}, jetstream.WithRetryAttempts(0))
			var refused *jetstream.APIError
			if !errors.As(err, &refused) {
				t.Errorf("%s on %s: %+v, %v", name, d.subject, ack, err)
			}
		}
	}
	for _, stream := range []string{"SUBMIT_jenkins", "SUBMIT_audit", "SUBMIT_mute", natsd.Lifecycle, natsd.Timers} {
		st, err := c.service.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		if n := st.CachedInfo().State.LastSeq; n != 0 {
			t.Errorf("%s has %d messages", stream, n)
		}
	}
}

// A message id swallows only what the same principal sends: each has a stream of its own.
func TestPredictedIDs(t *testing.T) {
	c := startClosed(t)
	_, jenkins := c.as("jenkins")
	_, audit := c.as("audit")
	_, mute := c.as("mute")
	for _, id := range []string{"c/7:jenkins4:/src2:id", "f/8f6f0c2e-0000-5000-8000-000000000000"} {
		h := nats.Header{"Nats-Msg-Id": {id}}
		if _, err := jenkins.PublishMsg(t.Context(), &nats.Msg{Subject: "submit.jenkins.x", Header: h}); err != nil {
			t.Fatal(err)
		}
		for subject, js := range map[string]jetstream.JetStream{"submit.audit.x": audit, "submit.mute.x": mute, "claims.shop.plan.ticket.created.t1": c.service} {
			if ack, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: h}); err != nil || ack.Duplicate {
				t.Errorf("%s under %s: %+v, %v", subject, id, ack, err)
			}
		}
	}
}

// A consumer's name that is a wildcard opens nobody's, and none keeps the server from taking other keys over.
func TestNamesOfConsumers(t *testing.T) {
	c := startClosed(t)
	nc, jenkins := c.as("jenkins")
	if _, err := c.service.CreateConsumer(t.Context(), natsd.Lifecycle, jetstream.ConsumerConfig{Durable: "effect-plan-x", FilterSubject: "lifecycle.*.plan.>", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.service.Publish(t.Context(), "lifecycle.food.plan.ticket.created.t1", []byte("secret")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"*", ">", "a\u200bb", "a b", "ä", "a*", strings.Repeat("a", 129)} {
		config, err := json.Marshal(map[string]any{"stream_name": natsd.Lifecycle, "config": map[string]any{"name": name, "filter_subject": "lifecycle.shop.>"}})
		if err != nil {
			t.Fatal(err)
		}
		m, err := nc.Request("$JS.API.CONSUMER.CREATE.LIFECYCLE."+strings.ReplaceAll(name, " ", "_")+".lifecycle.shop.>", config, 2*time.Second)
		if err == nil && !strings.Contains(string(m.Data), `"error"`) {
			t.Errorf("%q: %s", name, m.Data)
		}
	}
	if m, err := nc.Request("$JS.API.CONSUMER.MSG.NEXT.LIFECYCLE.effect-plan-x", []byte("1"), 300*time.Millisecond); err == nil && len(m.Data) > 0 {
		t.Errorf("a service's work: %s %s", m.Subject, m.Data)
	}
	c.change(func(k *natsd.Keyring) error { return k.Remove("mute") })
	if err := c.Reload(); err != nil {
		t.Error(err)
	}
	if _, err := jenkins.CreateConsumer(t.Context(), natsd.Lifecycle, jetstream.ConsumerConfig{Name: "Own_1-x", FilterSubject: "lifecycle.shop.>"}); err == nil {
		t.Error("a name with a hyphen that is not its own")
	}
	if _, err := jenkins.CreateConsumer(t.Context(), natsd.Lifecycle, jetstream.ConsumerConfig{Name: "jenkins-Own_1", FilterSubject: "lifecycle.shop.>"}); err != nil {
		t.Error(err)
	}
}

// One principal's consumers take no room from another's, and one that goes makes room for the next.
func TestRoomForConsumers(t *testing.T) {
	c := startClosed(t)
	_, jenkins := c.as("jenkins")
	_, audit := c.as("audit")
	create := func(js jetstream.JetStream, name string) error {
		_, err := js.CreateConsumer(t.Context(), natsd.Lifecycle, jetstream.ConsumerConfig{Name: name, FilterSubject: "lifecycle.shop.>"})
		return err
	}
	for n := range 200 {
		if err := create(jenkins, fmt.Sprintf("c%d", n)); err != nil {
			t.Fatalf("consumer %d: %v", n, err)
		}
	}
	var refused *jetstream.APIError
	if err := create(jenkins, "more"); !errors.As(err, &refused) || refused.Code != 429 || !strings.Contains(refused.Description, "jenkins has 200 consumers") {
		t.Errorf("one more: %v", err)
	}
	if err := create(audit, "other"); err != nil {
		t.Errorf("another principal: %v", err)
	}
	if err := jenkins.DeleteConsumer(t.Context(), natsd.Lifecycle, "c7"); err != nil {
		t.Fatal(err)
	}
	if err := create(jenkins, "instead"); err != nil {
		t.Errorf("in the place of one that went: %v", err)
	}
	// One that goes without the guard's knowing is found out.
	if err := c.service.DeleteConsumer(t.Context(), natsd.Lifecycle, "c8"); err != nil {
		t.Fatal(err)
	}
	err := create(jenkins, "later")
	for deadline := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		err = create(jenkins, "later")
	}
	if err != nil {
		t.Errorf("in the place of one that went by itself: %v", err)
	}
}

// The last fact can be asked for by a filter that may be read, and by no other.
func TestLastFact(t *testing.T) {
	c := startClosed(t)
	nc, _ := c.as("jenkins")
	for _, project := range []string{"shop", "food"} {
		if _, err := c.service.Publish(t.Context(), "lifecycle."+project+".plan.ticket.created.t1", []byte(project)); err != nil {
			t.Fatal(err)
		}
	}
	for filter, want := range map[string]string{"lifecycle.shop.>": `"seq":1`, "lifecycle.food.>": "403", "lifecycle.>": "403", ">": "403", "": "403"} {
		m, err := nc.Request("$JS.API.STREAM.MSG.GET.LIFECYCLE", fmt.Appendf(nil, `{"last_by_subj":%q,"seq":2}`, filter), 2*time.Second)
		if err != nil || !strings.Contains(string(m.Data), want) {
			t.Errorf("%q: %s, %v", filter, m.Data, err)
		}
	}
}

// A principal's consumers show it its projects, and nobody else's consumers.
func TestAnotherProject(t *testing.T) {
	c := startClosed(t)
	ctx := t.Context()
	_, jenkins := c.as("jenkins")
	_, audit := c.as("audit")
	for _, project := range []string{"shop", "food"} {
		if _, err := c.service.Publish(ctx, "lifecycle."+project+".plan.ticket.created.t1", []byte(project)); err != nil {
			t.Fatal(err)
		}
	}
	next := func(js jetstream.JetStream, filter, name string) (string, error) {
		cons, err := js.CreateConsumer(ctx, natsd.Lifecycle, jetstream.ConsumerConfig{Durable: name, FilterSubject: filter, AckPolicy: jetstream.AckExplicitPolicy})
		if err != nil {
			return "", err
		}
		batch, err := cons.Fetch(10, jetstream.FetchMaxWait(300*time.Millisecond))
		if err != nil {
			return "", err
		}
		var got []string
		for m := range batch.Messages() {
			got = append(got, string(m.Data()))
		}
		return strings.Join(got, " "), batch.Error()
	}
	if got, err := next(jenkins, "lifecycle.shop.>", "jenkins-ci"); got != "shop" || err != nil {
		t.Errorf("its own: %q, %v", got, err)
	}
	for _, filter := range []string{"lifecycle.food.>", "lifecycle.>", "lifecycle.*.plan.>", "lifecycle.shopping.>"} {
		if got, err := next(jenkins, filter, "jenkins-x"); err == nil {
			t.Errorf("%s: %q", filter, got)
		}
	}
	if got, err := next(audit, "lifecycle.>", "audit-all"); got != "shop food" || err != nil {
		t.Errorf("all: %q, %v", got, err)
	}
	if _, err := jenkins.Consumer(ctx, natsd.Lifecycle, "audit-all"); err == nil {
		t.Error("another's consumer is shown")
	}
	if err := jenkins.DeleteConsumer(ctx, natsd.Lifecycle, "audit-all"); err == nil {
		t.Error("another's consumer is deleted")
	}
	// Subjects would name projects.
	st, err := jenkins.Stream(ctx, natsd.Lifecycle)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := st.Info(ctx, jetstream.WithSubjectFilter(">")); err != nil || len(info.State.Subjects) > 0 {
		t.Errorf("subjects: %v, %v", info.State.Subjects, err)
	}

	// What may be read no longer is not read by an old consumer either.
	c.change(func(k *natsd.Keyring) error {
		for i := range k.Entries {
			if k.Entries[i].Name == "audit" {
				k.Entries[i].Reads = []string{"shop"}
			}
		}
		return nil
	})
	if err := c.Reload(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; <-time.After(20 * time.Millisecond) {
		_, err := c.service.Consumer(ctx, natsd.Lifecycle, "audit-all")
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the old consumer is still there: %v", err)
		}
	}
}

// A key is replaced while everybody works: the old one is good for its grace, nobody else notices, and a principal that
// is added gets in without a restart.
func TestRotateWithoutDowntime(t *testing.T) {
	c := startClosed(t)
	ctx := t.Context()
	var lost atomic.Int64
	watch := nats.DisconnectErrHandler(func(*nats.Conn, error) { lost.Add(1) })
	old, oldJS := c.as("jenkins", watch, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	_, audit := c.as("audit", watch)
	planner, _ := connect(t, func(o ...nats.Option) (*nats.Conn, error) { return c.ConnectAs("planner", append(o, watch)...) })
	cons, err := oldJS.CreateConsumer(ctx, natsd.Lifecycle, jetstream.ConsumerConfig{Durable: "jenkins-ci", FilterSubject: "lifecycle.shop.>", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	works := func(what string) {
		t.Helper()
		n++
		if _, err := c.service.Publish(ctx, "lifecycle.shop.plan.ticket.created.t1", fmt.Append(nil, n)); err != nil {
			t.Fatal(err)
		}
		m, err := cons.Next(jetstream.FetchMaxWait(5 * time.Second))
		if err != nil || string(m.Data()) != fmt.Sprint(n) {
			t.Fatalf("%s: the consumer: %v", what, err)
		}
		if err := m.DoubleAck(ctx); err != nil {
			t.Fatalf("%s: the ack: %v", what, err)
		}
		for name, js := range map[string]jetstream.JetStream{"jenkins": oldJS, "audit": audit} {
			if _, err := js.Publish(ctx, "submit."+name+".x", nil); err != nil {
				t.Fatalf("%s: %s: %v", what, name, err)
			}
		}
		if err := planner.FlushTimeout(5 * time.Second); err != nil {
			t.Fatalf("%s: planner: %v", what, err)
		}
	}
	works("before")
	var fresh, added []byte
	c.change(func(k *natsd.Keyring) (err error) {
		if fresh, err = k.Rotate("jenkins", time.Hour, time.Now()); err != nil {
			return err
		}
		added, err = k.Add(natsd.Entry{Name: "gerrit", Reads: []string{"shop"}}, time.Now())
		return err
	})
	if err := c.Reload(); err != nil {
		t.Fatal(err)
	}
	works("in the grace")
	if err := natsd.EnsureSubmit(ctx, c.service, "gerrit", 1); err != nil {
		t.Fatal(err)
	}
	for name, seed := range map[string][]byte{"jenkins": fresh, "gerrit": added} {
		_, js := connect(t, func(o ...nats.Option) (*nats.Conn, error) {
			return nats.Connect(c.URL(), append(c.options(name, seed), o...)...)
		})
		if _, err := js.Publish(ctx, "submit."+name+".x", nil); err != nil {
			t.Errorf("%s with its new key: %v", name, err)
		}
		if name == "gerrit" {
			if _, err := js.CreateConsumer(ctx, natsd.Lifecycle, jetstream.ConsumerConfig{FilterSubject: "lifecycle.shop.>"}); err != nil {
				t.Errorf("the consumer of an added principal: %v", err)
			}
		}
	}
	if lost.Load() != 0 {
		t.Errorf("%d connections were lost", lost.Load())
	}

	// The grace ends; the server follows by itself.
	c.change(func(k *natsd.Keyring) error {
		over := time.Now().Add(-time.Second)
		for i, e := range k.Entries {
			if e.Name == "jenkins" {
				k.Entries[i].Keys[0].Until = &over
			}
		}
		return nil
	})
	for deadline := time.Now().Add(10 * time.Second); old.IsConnected(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the old key is still good")
		}
	}
	if nc, err := nats.Connect(c.URL(), c.options("jenkins", c.seeds["jenkins"])...); err == nil {
		nc.Close()
		t.Error("the old key gets in")
	}
	if lost.Load() != 1 {
		t.Errorf("%d connections were lost, want that of the old key", lost.Load())
	}
}

func TestBadKeyrings(t *testing.T) {
	var k natsd.Keyring
	for _, e := range []natsd.Entry{
		{Name: ""}, {Name: "a.b"}, {Name: "A"}, {Name: "local"}, {Name: "gateway"}, {Name: "x}"}, {Name: "shipper", Service: true},
		{Name: "x", Reads: []string{"a.>"}}, {Name: "x", Reads: []string{`"`}}, {Name: "-x"}, {Name: "x y"},
	} {
		if _, err := k.Add(e, time.Now()); err == nil {
			t.Errorf("%+v was taken", e)
		}
	}
	dir := t.TempDir()
	for _, text := range []string{"{", `{"entries":[{"name":"x","keys":[{"public":"SUAAA"}]}]}`, `{"entries":[{"name":"x"},{"name":"x"}]}`} {
		if err := os.WriteFile(filepath.Join(dir, natsd.KeysFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := natsd.ReadKeyring(dir); err == nil {
			t.Errorf("%s was read", text)
		}
		if s, err := natsd.Start(natsd.Options{Dir: dir, Auth: true}); err == nil {
			s.Stop()
			t.Errorf("a server started with %s", text)
		}
	}
}

// A server of its own takes the exported configuration, and keeps the same people apart.
func TestExportedConfiguration(t *testing.T) {
	var k natsd.Keyring
	seeds := map[string][]byte{}
	for _, e := range []natsd.Entry{{Name: "jenkins", Reads: []string{"shop"}}, {Name: "planner", Service: true}, {Name: "gateway", Service: true}} {
		var err error
		if seeds[e.Name], err = k.Add(e, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	installation, err := (&natsd.Keyring{}).Add(natsd.Entry{Name: "x"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	public := publicKey(t, installation)
	text, err := natsd.ServerConfig(k, public, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, string(installation)) {
		t.Error("a seed is in the configuration")
	}
	dir := t.TempDir()
	for name, content := range map[string]string{
		"lemnis-accounts.conf": text,
		"nats.conf":            fmt.Sprintf("listen: \"127.0.0.1:-1\"\njetstream { store_dir: %q }\ninclude lemnis-accounts.conf\n", filepath.Join(dir, "store")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	opts, err := server.ProcessConfigFile(filepath.Join(dir, "nats.conf"))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	opts.NoSigs, opts.NoLog = true, true
	ns, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	defer func() { ns.Shutdown(); ns.WaitForShutdown() }()
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	c := &closed{t: t}
	dial := func(name string, seed []byte) func(o ...nats.Option) (*nats.Conn, error) {
		return func(o ...nats.Option) (*nats.Conn, error) {
			return nats.Connect(ns.ClientURL(), append(c.options(name, seed), o...)...)
		}
	}
	_, all := connect(t, dial("x", installation))
	ensure(t, all, 1)
	if err := natsd.EnsureSubmit(t.Context(), all, "jenkins", 1); err != nil {
		t.Fatal(err)
	}
	jenkins, js := connect(t, dial("jenkins", seeds["jenkins"]))
	live, err := jenkins.SubscribeSync("lifecycle.shop.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := jenkins.Flush(); err != nil {
		t.Fatal(err)
	}
	planner, plan := connect(t, dial("planner", seeds["planner"]))
	_ = planner
	// The planner finds the streams, which it may not make.
	ensure(t, plan, 1)
	for _, project := range []string{"food", "shop"} {
		if _, err := plan.Publish(t.Context(), "lifecycle."+project+".plan.ticket.created.t1", []byte(project)); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := live.NextMsg(5 * time.Second); err != nil || string(m.Data) != "shop" {
		t.Errorf("live: %v, %v", m, err)
	}
	if ack, err := js.Publish(t.Context(), "submit.jenkins.x", nil); err != nil || ack.Stream != "SUBMIT_jenkins" {
		t.Errorf("submit: %+v, %v", ack, err)
	}
	r := c.try(dial("jenkins", seeds["jenkins"]))
	for _, subject := range []string{"claims.shop.plan.ticket.created.t1", "lifecycle.shop.plan.ticket.created.t1", "submit.other.x", "$JS.API.STREAM.DELETE.LIFECYCLE"} {
		if r.mayPublish(subject) {
			t.Errorf("jenkins publishes %s", subject)
		}
	}
	if p := c.try(dial("planner", seeds["planner"])); p.mayPublish("lifecycle.shop.deploy.service.deployed.x") || p.mayPublish("claims.shop.plan.ticket.created.t1") {
		t.Error("the planner speaks for others")
	}
	if nc, err := nats.Connect(ns.ClientURL()); err == nil {
		nc.Close()
		t.Error("nobody gets in")
	}
}

func publicKey(t *testing.T, seed []byte) string {
	t.Helper()
	public, err := natsd.PublicKeyOf(seed)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func TestTLS(t *testing.T) {
	f := certstest.Write(t, t.TempDir())
	pair, err := certs.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	c := startClosed(t, func(o *natsd.Options) { o.TLS = pair.Server() })
	roots, err := certs.Roots(f.CA)
	if err != nil {
		t.Fatal(err)
	}
	trust := nats.Secure(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	nc, _ := c.as("jenkins", trust)
	if state, err := nc.TLSConnectionState(); err != nil || !state.HandshakeComplete {
		t.Errorf("not encrypted: %v", err)
	}
	if plain, err := nats.Connect(c.URL(), c.options("jenkins", c.seeds["jenkins"])...); err == nil {
		plain.Close()
		t.Error("a client that does not trust the certificate is connected")
	}
	// A reload keeps it.
	c.change(func(k *natsd.Keyring) error { return k.Remove("mute") })
	if err := c.Reload(); err != nil {
		t.Fatal(err)
	}
	c.as("jenkins", trust)
}

package doctor_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lemnis/lemnis/cmd/lemnis/api"
	"github.com/lemnis/lemnis/cmd/lemnis/doctor"
	"github.com/lemnis/lemnis/cmd/lemnis/reach"
	"github.com/lemnis/lemnis/cmd/lemnis/up"
	"github.com/lemnis/lemnis/cmd/lemnis/up/uptest"
	"github.com/lemnis/lemnis/internal/natsd"
)

// examine looks until what it sees is wanted, or for as long as an installation may take to settle.
func examine(t *testing.T, o doctor.Options, ok func(doctor.Report) bool) doctor.Report {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(50 * time.Millisecond) {
		r := doctor.Examine(t.Context(), o)
		if ok(r) || time.Now().After(deadline) {
			for _, c := range r.Checks {
				t.Logf("%-8s %s: %s", c.State, c.Name, c.Detail)
			}
			return r
		}
	}
}

func (f found) has(t *testing.T, severity, part string) {
	t.Helper()
	for _, one := range f {
		if one.Severity == severity && strings.Contains(one.What, part) {
			if one.Why == "" || one.Mend == "" {
				t.Errorf("%q says neither why nor what mends it", one.What)
			}
			return
		}
	}
	t.Errorf("there is no %s %q", severity, part)
}

type found []doctor.Finding

func TestHealthyAndStopped(t *testing.T) {
	data := t.TempDir()
	stack, stop := uptest.Run(t, up.Options{Data: data})
	client := api.New(stack.URL())
	defer client.Close()
	o := doctor.Options{Client: client, Bus: reach.Address{Data: data}}
	r := examine(t, o, func(r doctor.Report) bool { return r.Healthy })
	for _, one := range r.Findings {
		t.Errorf("%s: %s", one.Severity, one.What)
	}
	for _, c := range r.Checks {
		if c.State != doctor.OK {
			t.Errorf("%s is %s: %s", c.Name, c.State, c.Detail)
		}
	}
	stop()
	r = doctor.Examine(t.Context(), o)
	if r.Healthy {
		t.Error("what does not run is healthy")
	}
	found(r.Findings).has(t, doctor.Error, "no gateway answers")
	found(r.Findings).has(t, doctor.Error, "does not run")
}

// Each fault is a real one, on a real bus; the gateway that is away by ten minutes is one that says so.
func TestFaults(t *testing.T) {
	dir := t.TempDir()
	server, err := natsd.Start(natsd.Options{Dir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := natsd.EnsureStreams(t.Context(), js, 1); err != nil {
		t.Fatal(err)
	}
	change := func(stream string, how func(*jetstream.StreamConfig)) {
		st, err := js.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		c := st.CachedInfo().Config
		how(&c)
		if _, err := js.UpdateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	change(natsd.Lifecycle, func(c *jetstream.StreamConfig) { c.MaxAge = 24 * time.Hour })
	change(natsd.DeadLetter, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 })
	if err := js.DeleteStream(t.Context(), natsd.Timers); err != nil {
		t.Fatal(err)
	}
	if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "deadletter.shop.plan", Header: nats.Header{"Lemnis-Reason": {"it panics"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "lifecycle.shop.plan.ticket.created.T-1", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateConsumer(t.Context(), natsd.Lifecycle, jetstream.ConsumerConfig{Durable: "effect-plan-tell", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	leases, err := js.KeyValue(t.Context(), natsd.Leases)
	if err != nil {
		t.Fatal(err)
	}
	for phase, holding := range map[string]string{"plan": `{"owner":"somebody","floor":1}`, "deploy": `{"owner":"","floor":1}`, "learn": `{`} {
		if _, err := leases.PutString(t.Context(), phase, holding); err != nil {
			t.Fatal(err)
		}
	}
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(10*time.Minute).UTC().Format(http.TimeFormat))
		switch {
		case r.URL.Path == "/healthz":
			w.Header().Set(api.VersionHeader, "two")
		case r.URL.Path == "/api/v1/tokens":
			_, _ = w.Write([]byte(`{"tokens":[{"name":"jenkins","expires":"` + time.Now().Add(48*time.Hour).UTC().Format(time.RFC3339) + `"},{"name":"old","expires":"2020-01-01T00:00:00Z"}]}`))
		case r.URL.Path == "/api/v1/quotas":
			_, _ = w.Write([]byte(`{"projects":[{"project":"shop","quotas":[{"of":"events in a day","used":100,"limit":100},{"of":"bytes in the registry","used":9,"limit":0}]},` +
				`{"project":"food","quotas":[{"of":"events in a day","used":79,"limit":100},{"of":"bytes in the registry","used":80,"limit":100}]}]}`))
		case strings.HasPrefix(r.URL.Path, "/v2/"):
			http.Error(w, "no space left on device", http.StatusInsufficientStorage)
		default:
			http.Error(w, "not ready: index", http.StatusServiceUnavailable)
		}
	}))
	defer gateway.Close()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(api.VersionHeader, "one")
		http.Error(w, "plan: partition 3 of shop is stopped", http.StatusServiceUnavailable)
	}))
	defer service.Close()
	client := api.New(gateway.URL)
	defer client.Close()
	o := doctor.Options{
		Client: client, Health: []string{service.URL, "http://127.0.0.1:1"}, Redis: "redis://127.0.0.1:1/0",
		Bus: reach.Address{NATS: server.URL(), Key: filepath.Join(dir, natsd.KeyFile)},
	}
	copies, err := nc.SubscribeSync("$JS.API.DIRECT.GET.KV_" + natsd.Leases + ".>")
	if err != nil {
		t.Fatal(err)
	}
	r := examine(t, o, func(doctor.Report) bool { return true })
	if r.Healthy {
		t.Error("it is healthy")
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, err := copies.Pending(); err != nil || n > 0 {
		t.Errorf("%d questions about leases to whichever copy answers first, which may be behind; %v", n, err)
	}
	f := found(r.Findings)
	for _, want := range []struct{ severity, part string }{
		{doctor.Error, "the clock of the gateway is 10m"},
		{doctor.Error, "the gateway is not ready: not ready: index"},
		{doctor.Error, "the binary repository can not be written to: 507"},
		{doctor.Warning, "the token jenkins expires in"},
		{doctor.Warning, "the token old has expired"},
		{doctor.Error, "partition 3 of shop is stopped"},
		{doctor.Warning, "has the version one, the gateway two"},
		{doctor.Error, "nobody answers at http://127.0.0.1:1"},
		{doctor.Error, "Redis at 127.0.0.1:1 does not answer"},
		{doctor.Error, "stream LIFECYCLE drops what it holds: limit of age 24h0m0s"},
		{doctor.Error, "stream DEADLETTER: largest message is 1000"},
		{doctor.Error, "the stream TIMERS is not there"},
		{doctor.Error, "nobody works for effect-plan-tell: 1 wait"},
		{doctor.Error, "the phase deploy: its last owner has ended"},
		{doctor.Error, "nobody has ever decided the phase operate"},
		{doctor.Error, "the lease of learn can not be read"},
		{doctor.Warning, "1 dead letters, the last because it panics"},
		{doctor.Error, "the project shop has used up its 100 events in a day"},
		{doctor.Warning, "the project food uses 80 of its 100 bytes in the registry"},
	} {
		f.has(t, want.severity, want.part)
	}
	for _, one := range f {
		if one.Check == "quotas" && strings.Contains(one.What, "79") {
			t.Errorf("%s, below four fifths", one.What)
		}
		if strings.Contains(one.What, "phase plan") {
			t.Errorf("%s, although its owner has just spoken", one.What)
		}
	}
	// It is silent from here on.
	if !testing.Short() {
		r = examine(t, o, func(r doctor.Report) bool {
			for _, one := range r.Findings {
				if strings.Contains(one.What, "the owner of the phase plan is silent") {
					return true
				}
			}
			return false
		})
		found(r.Findings).has(t, doctor.Error, "the owner of the phase plan is silent for")
	}
}
